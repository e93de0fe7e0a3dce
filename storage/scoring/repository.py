"""Scorings in Postgres, for those who ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg2
from psycopg2.extras import Json

from shunter.storage.database import Cursor, Database, fetch_all
from shunter.storage.errors import AlreadyFinished, Conflict, NotFound
from shunter.storage.job import DEFAULT_TENANT, JobState
from shunter.storage.scoring.chunk import Place
from shunter.storage.scoring.sources import Source
from shunter.storage.scoring.spec import Scoring, ScoringState, Spec, fingerprint

COLUMNS = """id, tenant, state, spec, fingerprint, jsonb_array_length(sources) AS files, planned, chunks,
    planned_rows, total_rows, rows_succeeded, rows_failed, error, created_at, finished_at, schedule_name,
    window_start, (SELECT drifted FROM scoring_reports WHERE scoring = scorings.id) AS drifted"""

INSERT = """
INSERT INTO scorings (id, tenant, identity, fingerprint, output, spec, sources, place, total_rows,
    schedule_name, window_start)
VALUES (%(id)s, %(tenant)s, %(identity)s, %(fingerprint)s, %(output)s, %(spec)s, %(sources)s, %(place)s,
    %(rows)s, %(schedule_name)s, %(window_start)s)
"""

SUPERSEDE = """
UPDATE scorings SET superseded = true WHERE tenant = %(tenant)s AND identity = %(identity)s AND NOT superseded
RETURNING id
"""

CURRENT = f"SELECT {COLUMNS} FROM scorings WHERE tenant = %s AND identity = %s AND NOT superseded"

END = f"""
UPDATE scorings SET state = %(state)s, error = %(error)s, finished_at = now()
WHERE id = %(id)s AND state = '{ScoringState.RUNNING}' RETURNING id
"""

# Ids stand in the statement as an array, so that the planner leaves out partitions.
OPEN_JOBS = "SELECT job FROM scoring_chunks WHERE scoring = %s AND state IS NULL"

CANCEL_JOBS = f"""
WITH open AS (
    SELECT id FROM jobs
    WHERE id = ANY(%(ids)s::uuid[]) AND state IN ('{JobState.QUEUED}', '{JobState.RUNNING}')
    ORDER BY id FOR UPDATE
)
UPDATE jobs SET state = '{JobState.CANCELLED}', finished_at = now()
FROM open
WHERE jobs.id = open.id AND jobs.id = ANY(%(ids)s::uuid[])
  AND state IN ('{JobState.QUEUED}', '{JobState.RUNNING}')
"""


class UnknownScoring(NotFound):
    """No scoring has this id."""

    code = "unknown_scoring"

    def __init__(self, id: object) -> None:
        super().__init__(f"no scoring has the id {id}: `shunter scorings` lists them")


class ScoringRepository:
    """Creates, finds and cancels scorings; what moves them on is ScoringProgress."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        id: UUID,
        spec: Spec,
        sources: Sequence[Source],
        *,
        total_rows: int | None,
        force: bool = False,
        tenant: str = DEFAULT_TENANT,
    ) -> None:
        """Store a scoring, which is then under way; with `force` an earlier one of the same question ends.

        Raises Conflict when another process was faster, or another scoring writes to the same place.
        """
        with self._database.transaction() as cursor:
            insert(cursor, id, spec, sources, total_rows=total_rows, force=force, tenant=tenant)

    def current(self, identity: bytes, *, tenant: str = DEFAULT_TENANT) -> Scoring | None:
        """The scoring that answers this question, if one does."""
        with self._database.transaction() as cursor:
            cursor.execute(CURRENT, (tenant, identity))
            found = fetch_all(cursor)
        return scoring(found[0]) if found else None

    def sources(self, id: UUID) -> list[Source]:
        """The files of a scoring's input, as they were when it began."""
        with self._database.transaction() as cursor:
            cursor.execute("SELECT sources FROM scorings WHERE id = %s", (id,))
            found = cursor.fetchone()
        if found is None:
            raise UnknownScoring(id)
        return [Source(**source) for source in found[0]]

    def get(self, id: UUID, *, tenant: str = DEFAULT_TENANT) -> Scoring:
        """One scoring; UnknownScoring."""
        with self._database.transaction() as cursor:
            cursor.execute(f"SELECT {COLUMNS} FROM scorings WHERE id = %s AND tenant = %s", (id, tenant))
            found = fetch_all(cursor)
        if not found:
            raise UnknownScoring(id)
        return scoring(found[0])

    def find(
        self, *, tenant: str = DEFAULT_TENANT, before: UUID | None = None, limit: int = 50
    ) -> list[Scoring]:
        """The newest first, older than `before`."""
        older = "AND id < %(before)s" if before is not None else ""
        with self._database.transaction() as cursor:
            cursor.execute(
                f"SELECT {COLUMNS} FROM scorings WHERE tenant = %(tenant)s {older} "
                "ORDER BY id DESC LIMIT %(limit)s",
                {"tenant": tenant, "before": before, "limit": limit},
            )
            return [scoring(row) for row in fetch_all(cursor)]

    def cancel(self, id: UUID, *, tenant: str = DEFAULT_TENANT) -> Scoring:
        """Cancel a scoring and its chunks; UnknownScoring, AlreadyFinished."""
        self.get(id, tenant=tenant)
        with self._database.transaction() as cursor:
            ended = end(cursor, id, ScoringState.CANCELLED, None)
        found = self.get(id, tenant=tenant)
        if not ended and found.state is not ScoringState.CANCELLED:
            raise AlreadyFinished(id, found.state)
        return found


def insert(
    cursor: Cursor,
    id: UUID,
    spec: Spec,
    sources: Sequence[Source],
    *,
    total_rows: int | None,
    force: bool = False,
    tenant: str = DEFAULT_TENANT,
    schedule_name: str | None = None,
    window_start: datetime | None = None,
) -> None:
    """The same within a transaction, which is of no more use after a Conflict; perhaps for a schedule."""
    identity = spec.identity()
    names = {
        "id": id,
        "tenant": tenant,
        "identity": identity,
        "fingerprint": fingerprint(identity, sources),
        "output": spec.output,
        "spec": Json(spec.document()),
        "sources": Json([source.document() for source in sources]),
        "place": Json(Place().document()),
        "rows": total_rows,
        "schedule_name": schedule_name,
        "window_start": window_start,
    }
    if force:
        cursor.execute(SUPERSEDE, names)
        for (earlier,) in cursor.fetchall():
            end(cursor, earlier, ScoringState.CANCELLED, None)
    try:
        cursor.execute(INSERT, names)
    except psycopg2.errors.UniqueViolation as error:
        raise Conflict(f"another scoring writes to {spec.output}: wait for it, or cancel it") from error


def read(cursor: Cursor, id: UUID) -> Scoring:
    """One scoring, within a transaction; UnknownScoring."""
    cursor.execute(f"SELECT {COLUMNS} FROM scorings WHERE id = %s", (id,))
    found = fetch_all(cursor)
    if not found:
        raise UnknownScoring(id)
    return scoring(found[0])


def end(cursor: Cursor, id: UUID, state: ScoringState, error: dict[str, Any] | None) -> bool:
    """End a scoring that is under way, and the chunks that are; whether it was."""
    cursor.execute(END, {"id": id, "state": state, "error": None if error is None else Json(error)})
    if cursor.fetchone() is None:
        return False
    cursor.execute(OPEN_JOBS, (id,))
    jobs = [row[0] for row in cursor.fetchall()]
    if jobs:
        cursor.execute(CANCEL_JOBS, {"ids": jobs})
    return True


def scoring(row: dict[str, Any]) -> Scoring:
    """A row of COLUMNS."""
    return Scoring(
        **{
            **row,
            "state": ScoringState(row["state"]),
            "spec": Spec.from_document(row["spec"]),
            "fingerprint": bytes(row["fingerprint"]),
        }
    )
