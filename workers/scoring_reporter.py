"""The reporter: builds the report of each scoring that is complete, once, and never harms the scoring."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any
from uuid import UUID

import psycopg2

from shunter.storage import failpoints
from shunter.storage.database import Cursor
from shunter.storage.duty_locks import DutyLock
from shunter.storage.errors import ObjectStoreUnavailable, ShunterError, Unavailable, shorten
from shunter.storage.job_repair import JobRepair
from shunter.storage.object_store import ObjectStore
from shunter.storage.scoring import progress, reports
from shunter.storage.scoring.destination import open_destination
from shunter.storage.scoring.progress import ChunkRecord
from shunter.storage.scoring.reports import ReportState
from shunter.storage.scoring.repository import read
from shunter.storage.scoring.spec import Scoring
from shunter.workers.report.facts import EXIT_UNAVAILABLE, BuiltReport, ChunkFacts, ReportFacts
from shunter.workers.scoring_round import each_scoring

log = logging.getLogger(__name__)


BUILD_TIMEOUT_S = 300.0

DEATHS = 3
"""So often may the process that builds one report be killed, before it is given up."""

NEEDED = ("datasketches", "jinja2", "matplotlib", "pyarrow")
"""Modules that reports are built with; a hub without them leaves the reports to another."""

Build = Callable[[ReportFacts], BuiltReport]


class ReportFailed(ShunterError):
    """The report could not be built, and never will be."""


class BuildKilled(Unavailable):
    """The process that builds a report was killed: by the host's memory, say, or with the whole hub."""


class ScoringReporter:
    """One report after another; a kill at any point leaves it pending, and the next round builds it anew.

    The chunks' sketches lie among the scoring's parts, which are therefore removed here, and not before.
    """

    interval_s = 1.0

    def __init__(
        self,
        repair: JobRepair,
        store: ObjectStore,
        *,
        price: float | None,
        build: Build | None = None,
        needed: Sequence[str] = NEEDED,
    ) -> None:
        self._repair = repair
        self._store = store
        self._price = price
        self._build = build or build_apart
        self._deaths: Counter[UUID] = Counter()
        self._missing = [name for name in needed if find_spec(name) is None]
        if self._missing:
            log.info("this hub builds no reports, without %s: install shunter[scoring]", self._missing)

    def run_once(self) -> int:
        """One round; returns how many reports were built. Raises Unavailable."""
        if self._missing:
            return 0
        with self._repair.duty(DutyLock.REPORT_SCORINGS) as cursor:
            ids = [] if cursor is None else reports.pending(cursor)
        return each_scoring(ids, self._report)

    def _report(self, id: UUID) -> bool:
        try:
            return self._build_and_keep(id)
        except psycopg2.DataError as error:
            # What Postgres refuses once, it would refuse every time.
            log.exception("the report of the scoring %s cannot be stored", id)
            return self._give_up(id, f"it cannot be stored: {error}")

    def _give_up(self, id: UUID, reason: str) -> bool:
        with self._repair.duty(DutyLock.REPORT_SCORINGS) as cursor:
            if cursor is None or not reports.hold(cursor, id):
                return False
            scoring = read(cursor, id)
            reports.conclude(cursor, id, ReportState.FAILED, {"error": shorten(reason)})
        open_destination(scoring.spec.output, id).discard()
        return False

    def _build_and_keep(self, id: UUID) -> bool:
        with self._repair.duty(DutyLock.REPORT_SCORINGS) as cursor:
            if cursor is None or not reports.hold(cursor, id):
                return False
            scoring = read(cursor, id)
            ready = self._conclude(cursor, scoring)
        open_destination(scoring.spec.output, id).discard()
        return ready

    def _conclude(self, cursor: Cursor, scoring: Scoring) -> bool:
        try:
            built = self._built(_facts(cursor, scoring, self._price), scoring.id)
        except ReportFailed as error:
            log.error("the scoring %s has no report: %s", scoring.id, error)
            return not reports.conclude(cursor, scoring.id, ReportState.FAILED, {"error": error.message})
        key = reports.page_key(scoring.id)
        self._store.put(key, built.page.encode())
        failpoints.hit("report.stored")
        if built.drifted:
            log.warning("the scoring %s has drifted: %s", scoring.id, built.document["drift"]["columns"])
        return reports.conclude(
            cursor,
            scoring.id,
            ReportState.READY,
            built.document,
            drifted=built.drifted,
            page_key=key,
            columns=built.columns,
        )

    def _built(self, facts: ReportFacts, id: UUID) -> BuiltReport:
        try:
            return self._build(facts)
        except BuildKilled as error:
            self._deaths[id] += 1
            if self._deaths[id] < DEATHS:
                raise
            raise ReportFailed(f"{error}, {DEATHS} times") from error


def build_apart(facts: ReportFacts) -> BuiltReport:
    """Build in a process of its own: plots and native code must not cost a hub its time, memory or life.

    Raises Unavailable, or ReportFailed for whatever it would meet every time.
    """
    command = [sys.executable, "-P", "-m", "shunter.workers.report.process"]
    try:
        done = subprocess.run(
            command, input=facts.encode(), capture_output=True, timeout=BUILD_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ReportFailed(f"it took longer than {BUILD_TIMEOUT_S:.0f} s") from error
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode == EXIT_UNAVAILABLE:
        raise ObjectStoreUnavailable(said)
    if done.returncode < 0:
        raise BuildKilled(f"the process that builds a report was killed by signal {-done.returncode}")
    if done.returncode:
        log.error("the process that builds a report ended with %d: %s", done.returncode, said)
        last = said.rpartition("\n")[2]
        raise ReportFailed(shorten(f"its process ended with {done.returncode}: {last}"))
    return BuiltReport.decode(done.stdout)


def _facts(cursor: Cursor, scoring: Scoring, price: float | None) -> ReportFacts:
    spec, finished_at = scoring.spec, scoring.finished_at
    assert finished_at is not None, "a report is of a scoring that has ended; this is a bug"
    references = reports.references(cursor, scoring)
    return ReportFacts(
        scoring={
            "id": str(scoring.id),
            "model": spec.model,
            "version": spec.version,
            "input": spec.input,
            "output": spec.table or spec.output,
            "created_at": scoring.created_at.isoformat(),
            "finished_at": finished_at.isoformat(),
        },
        seconds=(finished_at - scoring.created_at).total_seconds(),
        parts=open_destination(spec.output, scoring.id).parts,
        chunks=[_chunk(chunk, scoring) for chunk in progress.each_chunk(cursor, scoring.id)],
        references=references,
        price=price,
        missing=reports.missing(scoring, references),
    )


def _chunk(chunk: ChunkRecord, scoring: Scoring) -> ChunkFacts:
    part: dict[str, Any] = chunk.part or {}
    failures = part.get("failures") or {}
    if chunk.rows_failed and not failures:
        # It failed as a whole, before it could tell of any row.
        error = chunk.error or {"code": str(chunk.state), "message": ""}
        failures = {error["code"]: (chunk.rows_failed, error["message"])}
    ended_at = chunk.finished_at
    return ChunkFacts(
        rows_succeeded=chunk.rows_succeeded,
        rows_failed=chunk.rows_failed,
        ended_s=None if ended_at is None else (ended_at - scoring.created_at).total_seconds(),
        run=part.get("run"),
        failures=failures,
        columns_key=part.get("columns_key"),
    )
