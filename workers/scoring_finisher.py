"""The finisher: when every chunk of a scoring has ended, its parts become the dataset."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from shunter.storage import failpoints
from shunter.storage.database import Cursor
from shunter.storage.duty_locks import DutyLock
from shunter.storage.errors import (
    Conflict,
    Corrupt,
    DamagedObject,
    InvalidInput,
    NotFound,
    ObjectStoreUnavailable,
    SettingsError,
)
from shunter.storage.job import JobState
from shunter.storage.job_repair import JobRepair
from shunter.storage.schedules import rounds
from shunter.storage.scoring import progress, reports
from shunter.storage.scoring.chunk import Span
from shunter.storage.scoring.destination import (
    ERRORS,
    MANIFEST,
    Destination,
    OutputExists,
    open_destination,
    part_name,
)
from shunter.storage.scoring.formats import JSONL
from shunter.storage.scoring.marks import Watermark
from shunter.storage.scoring.progress import ChunkRecord
from shunter.storage.scoring.repository import end
from shunter.storage.scoring.sources import Source, is_s3, store_at
from shunter.storage.scoring.spec import Scoring, ScoringState
from shunter.workers.damage_count import DamageCount
from shunter.workers.scoring_round import each_scoring

log = logging.getLogger(__name__)


class ScoringFinisher:
    """Publishes one scoring after another; a kill at any point is made good by doing it again."""

    interval_s = 0.25

    def __init__(self, repair: JobRepair, damage: DamageCount | None = None) -> None:
        self._repair = repair
        self._waits: dict[UUID, str] = {}
        self._damage = damage or DamageCount()

    def run_once(self) -> int:
        """One round; returns how many scorings have ended. Raises Unavailable."""
        with self._repair.duty(DutyLock.FINISH_SCORINGS) as cursor:
            ids = [] if cursor is None else progress.under_way(cursor)
        return each_scoring(ids, self._finish)

    def _finish(self, id: UUID) -> bool:
        with self._repair.duty(DutyLock.FINISH_SCORINGS) as cursor:
            scoring = None if cursor is None else progress.finished(cursor, id)
            if cursor is None or scoring is None:
                return False
            try:
                refusal = progress.too_many_errors(scoring) or progress.gone_unread(cursor, scoring)
                error = refusal or self._publish(cursor, scoring)
            except SettingsError as refused:
                self._wait(id, refused)
                return False
            ended = end(cursor, id, ScoringState.FAILED if error else ScoringState.COMPLETE, error)
            if not error:
                # Its parts are removed by whoever builds it: it is made from what lies there.
                reports.expect(cursor, id)
            if ended and not error and scoring.spec.watermark is not None:
                rounds.keep_mark(cursor, id, scoring.spec.watermark)
        log.info("the scoring %s has ended: %d rows, %d failed", id, scoring.rows_done, scoring.rows_failed)
        return ended

    def _publish(self, cursor: Cursor, scoring: Scoring) -> dict[str, Any] | None:
        try:
            refused = _publish(cursor, scoring)
        except DamagedObject as error:
            if not self._damage.lasts(scoring.id, error.key):
                raise ObjectStoreUnavailable(error.message) from error
            refused = {"code": error.code, "message": error.message}
        self._damage.forget(scoring.id)
        return refused

    def _wait(self, id: UUID, error: SettingsError) -> None:
        """Somebody must act, or another hub can go on: said once, not at every round."""
        if self._waits.get(id) != error.message:
            self._waits[id] = error.message
            log.warning("this hub cannot publish the dataset of %s: %s", id, error)


def _publish(cursor: Cursor, scoring: Scoring) -> dict[str, Any] | None:
    """Let the dataset be seen, if it is not already; the error that forbids it. Raises SettingsError."""
    destination = open_destination(scoring.spec.output, scoring.id)
    try:
        seen = _manifest_at(destination)
        if seen is None or _scoring_of(seen) != str(scoring.id):
            if seen is not None and not _replaces(scoring):
                raise OutputExists(scoring.spec.output)
            _write(cursor, scoring, destination)
            failpoints.hit("dataset.published")
        if scoring.spec.table is not None:
            _fill_table(scoring, scoring.spec.table)
    except SettingsError:
        raise
    except (Conflict, InvalidInput, NotFound) as error:
        return {"code": error.code, "message": error.message}
    return None


def _manifest_at(destination: Destination) -> bytes | None:
    """The manifest that lies there, if one does; a damaged one is nobody's, and may be replaced as such."""
    try:
        return destination.published()
    except DamagedObject:
        return b""


def _replaces(scoring: Scoring) -> bool:
    """Whether what lies there already may go: nobody's but this question's lies beside a table."""
    return scoring.spec.force or scoring.spec.table is not None


def _fill_table(scoring: Scoring, table: str) -> None:
    """Put the published dataset into its table; done again after a kill, it changes nothing."""
    with _pyarrow_needed():
        from shunter.storage.scoring import table_sink, writing  # noqa: PLC0415

    assert scoring.spec.key is not None, "a table is written by key; this is a bug"
    place = scoring.spec.output
    store = store_at(place if is_s3(place) else Path(place).as_uri())
    files = [file["name"] for file in orjson.loads(store.get(MANIFEST))["files"]]
    sink = table_sink.TableSink(table, scoring.spec.key)
    sink.upsert(writing.read_table(store.get(name)) for name in files)


@contextmanager
def _pyarrow_needed() -> Iterator[None]:
    """Around imports that few rounds need: a hub that never sees a scoring does without pyarrow."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise SettingsError(f"{error}: install shunter[scoring] where workers run") from error


def _scoring_of(manifest: bytes) -> str | None:
    """Whose dataset it is; None if somebody else has written a file of this name."""
    try:
        told = orjson.loads(manifest)
    except ValueError:
        return None
    return told.get("scoring") if isinstance(told, dict) else None


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    rows: int


def _write(cursor: Cursor, scoring: Scoring, destination: Destination) -> None:
    fit = _fitting(cursor, scoring)
    files: list[_File] = []
    errors: list[_File] = []
    for chunk in progress.each_chunk(cursor, scoring.id):
        part = chunk.part or {}
        if part.get("rows_key"):
            name = part_name(chunk.number, scoring.spec.output_format)
            if fit is None:
                destination.take(part["rows_key"], name)
            else:
                destination.add(name, fit(store_at(destination.parts).get(part["rows_key"])))
            files.append(_File(name, part["rows"]))
        if chunk.rows_failed:
            name = f"{ERRORS}/{part_name(chunk.number, JSONL)}"
            if part.get("errors_key"):
                destination.take(part["errors_key"], name)
            else:
                destination.add(name, b"".join(_whole_chunk(cursor, scoring, chunk)))
            errors.append(_File(name, chunk.rows_failed))
    names = {file.name for file in (*files, *errors)}
    destination.publish(_manifest(scoring, files, errors), names, replace=_replaces(scoring))


def _fitting(cursor: Cursor, scoring: Scoring) -> Any:
    """What brings every part under one schema; None if they have one already."""
    schemas = progress.schemas(cursor, scoring.id)
    if len(schemas) < 2:
        return None
    with _pyarrow_needed():
        from shunter.storage.scoring import writing  # noqa: PLC0415

    schema, facts = writing.common_schema(schemas), writing.file_facts(scoring.spec, scoring.id)
    return lambda data: writing.fit(data, schema, facts=facts)


def _whole_chunk(cursor: Cursor, scoring: Scoring, chunk: ChunkRecord) -> Iterator[bytes]:
    """Lines for the rows of a chunk that failed as a whole, before it could tell of any."""
    with _pyarrow_needed():
        from shunter.storage.scoring.writing import encode_error  # noqa: PLC0415

    span = Span(**chunk.span)
    source = progress.source_at(cursor, scoring.id, span.file)
    numbers = _numbers(span, source, scoring.spec.watermark)
    if len(numbers) != span.count:
        # Nobody can tell any more which rows they were, but that they failed is told all the same.
        numbers = [None] * span.count
    state = chunk.state or JobState.FAILED
    error = chunk.error or {"code": state.value, "message": f"its chunk was {state.value}"}
    for number in numbers:
        yield encode_error(
            source=source.url, row=number, key=None, code=error["code"], message=error["message"]
        )


def _numbers(span: Span, source: Source, past: Watermark | None) -> Sequence[int | None]:
    """Which rows of its file a span is of, as far as that can still be told."""
    with _pyarrow_needed():
        from shunter.storage.scoring.reading import failed_rows  # noqa: PLC0415
        from shunter.storage.scoring.watermark import numbers_between  # noqa: PLC0415

    try:
        if span.only is not None:
            return failed_rows(span.only)
        if past is not None:
            return numbers_between(source, past, span.first_row, span.first_row + span.rows)
    except (Corrupt, InvalidInput, NotFound):
        return ()
    return range(span.first_row, span.first_row + span.rows)


def _manifest(scoring: Scoring, files: Sequence[_File], errors: Sequence[_File]) -> bytes:
    spec = scoring.spec
    document = {
        "scoring": str(scoring.id),
        "fingerprint": scoring.fingerprint.hex(),
        "model": spec.model,
        "version": spec.version,
        "input": spec.input,
        "retries": spec.retries,
        "format": spec.output_format,
        "order": "files in the order of their names, rows in the order of the input",
        "rows": {
            "total": scoring.rows_done,
            "succeeded": scoring.rows_succeeded,
            "failed": scoring.rows_failed,
        },
        "files": files,
        "errors": errors,
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
