"""The planner: takes over what chunks have come to, and puts the next ones on the queue."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from shunter.storage import failpoints
from shunter.storage.database import Cursor
from shunter.storage.duty_locks import DutyLock
from shunter.storage.envelope import Due, pack
from shunter.storage.errors import InvalidInput, NotFound, SettingsError
from shunter.storage.job import NewJob
from shunter.storage.job_repair import JobRepair
from shunter.storage.scoring import progress
from shunter.storage.scoring.chunk import Chunk, Place, Span
from shunter.storage.scoring.destination import open_destination, part_name
from shunter.storage.scoring.formats import compression_of
from shunter.storage.scoring.progress import Standing
from shunter.storage.scoring.repository import end
from shunter.storage.scoring.sources import Source, store_at
from shunter.storage.scoring.spec import ScoringState
from shunter.workers.lists import Lists
from shunter.workers.scoring_round import each_scoring

log = logging.getLogger(__name__)


WINDOW = 128
"""Chunks of one scoring that are queued or running at once, however many rows it has."""

STAGED_WINDOW = 16
"""The same for compressed text, whose chunks lie decompressed in the meantime."""

PAGE = 32
"""Chunks planned in one transaction."""


class ScoringPlanner:
    """Keeps a bounded number of each scoring's chunks on their way, until every file is planned."""

    interval_s = 0.25

    def __init__(self, repair: JobRepair, lists: Lists) -> None:
        self._repair = repair
        self._lists = lists
        self._files: Any = None
        self._waits: dict[UUID, str] = {}

    def run_once(self) -> int:
        """One round; returns how many chunks were put on the queue. Raises Unavailable."""
        with self._repair.duty(DutyLock.PLAN_SCORINGS) as cursor:
            ids = [] if cursor is None else progress.under_way(cursor)
        return each_scoring(ids, self._advance)

    def _advance(self, id: UUID) -> int:
        """Commit a page, then push it, until there is none; a kill in between leaves it to the relay."""
        chunks = 0
        while (page := self._under_lock(id)) is not None:
            jobs, enqueued_at = page
            failpoints.hit("plan.committed")
            due = [Due(job.id, job.model, job.version, job.rows, job.priority) for job in jobs]
            self._lists.push(pack(due, enqueued_at.timestamp()))
            chunks += len(jobs)
        return chunks

    def _under_lock(self, id: UUID) -> tuple[list[NewJob], datetime] | None:
        with self._repair.duty(DutyLock.PLAN_SCORINGS) as cursor:
            standing = None if cursor is None else progress.stand(cursor, id)
            if cursor is None or standing is None:
                return None
            try:
                return self._move_on(cursor, standing)
            except SettingsError as error:
                self._wait(id, error)
            except (InvalidInput, NotFound) as error:
                end(cursor, id, ScoringState.FAILED, {"code": error.code, "message": error.message})
            return None

    def _wait(self, id: UUID, error: SettingsError) -> None:
        """Somebody must act, or another hub can go on: said once, not at every round."""
        if self._waits.get(id) != error.message:
            self._waits[id] = error.message
            log.warning("this hub cannot go on with the scoring %s: %s", id, error)

    def _move_on(self, cursor: Cursor, standing: Standing) -> tuple[list[NewJob], datetime] | None:
        _, failed, still_open = progress.harvest(cursor, standing.scoring.id)
        scoring = replace(standing.scoring, rows_failed=standing.scoring.rows_failed + failed)
        refusal = progress.too_many_errors(scoring)
        if refusal is not None:
            end(cursor, scoring.id, ScoringState.FAILED, refusal)
            return None
        limit = min(PAGE, _window(standing) - still_open)
        if scoring.planned or limit <= 0:
            return None
        if scoring.spec.retries is not None:
            chunks, after = _plan_retries(cursor, standing, UUID(scoring.spec.retries), limit)
            planned = len(chunks) < limit
        else:
            chunks, after = self._plan(cursor, standing, limit)
            planned = after.file >= scoring.files
        return progress.add_chunks(cursor, standing, chunks, after=after, planned=planned)

    def _plan(self, cursor: Cursor, standing: Standing, limit: int) -> tuple[list[Chunk], Place]:
        if self._files is None:
            self._files = _file_planner()
        scoring, place = standing.scoring, standing.place
        destination = open_destination(scoring.spec.output, scoring.id)
        parts = store_at(destination.parts)
        chunks: list[Chunk] = []
        while len(chunks) < limit and place.file < scoring.files:
            source = progress.source_at(cursor, scoring.id, place.file)
            number = scoring.chunks + len(chunks)
            spans, place = self._files.plan(
                scoring.spec, source, place, limit=limit - len(chunks), number=number, stage=parts.put
            )
            chunks += _chunks(standing, source, destination.parts, spans, number=number)
        return chunks, place


def _file_planner() -> Any:
    """What needs pyarrow: a hub that never sees a scoring does not load it."""
    try:
        from shunter.storage.scoring.planning import FilePlanner  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise SettingsError(f"{error}: install shunter[scoring] where workers run") from error
    return FilePlanner()


def _window(standing: Standing) -> int:
    source = standing.source
    return WINDOW if source is None or compression_of(source.url) is None else STAGED_WINDOW


def _chunks(
    standing: Standing, source: Source, parts: str, spans: Sequence[Span], *, number: int
) -> list[Chunk]:
    scoring = standing.scoring
    return [
        Chunk(
            scoring=scoring.id,
            number=number + index,
            source=source,
            span=span,
            spec=scoring.spec,
            parts=parts,
        )
        for index, span in enumerate(spans)
    ]


def _plan_retries(cursor: Cursor, standing: Standing, earlier: UUID, limit: int) -> tuple[list[Chunk], Place]:
    """The failed rows of an earlier scoring's chunks, read from where they were."""
    scoring, place = standing.scoring, standing.place
    parts = open_destination(scoring.spec.output, scoring.id).parts
    chunks: list[Chunk] = []
    for number, span, failed in progress.failing_chunks(cursor, earlier, first=place.row, limit=limit):
        errors = f"{scoring.spec.input}/{part_name(number, 'jsonl')}"
        again = replace(span, staged=None, only=errors, failed=failed)
        source = progress.source_at(cursor, scoring.id, span.file)
        chunks += _chunks(standing, source, parts, [again], number=scoring.chunks + len(chunks))
        place = Place(row=number + 1)
    return chunks, place
