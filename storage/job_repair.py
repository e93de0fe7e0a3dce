"""Statements of the housekeeping duties: what puts stray jobs back on their way."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg2.extras import Json

from shunter.storage import partitions
from shunter.storage.database import Cursor, Database
from shunter.storage.envelope import Due
from shunter.storage.job import JobState, Priority

PAGE = 2_000
"""Jobs moved by one statement of a duty."""

UNSERVED_AFTER_S = 600.0
"""A version that no worker has served for so long fails its jobs."""

DUTY_STATEMENT_TIMEOUT_MS = 30_000

# One look into the index per line, however long the lines are.
OLDEST_QUEUED = f"""
SELECT lines.model, lines.priority, (
    SELECT min(enqueued_at) FROM jobs
    WHERE state = '{JobState.QUEUED}' AND jobs.model = lines.model AND jobs.priority = lines.priority)
FROM (
    SELECT DISTINCT name AS model, priority
    FROM models CROSS JOIN (VALUES (0::smallint), (1::smallint), (2::smallint)) AS classes (priority)
) AS lines
"""

# A job that waits for its next run has no envelope: it gets one when it is due.
WAKE = f"""
WITH due AS (
    SELECT id FROM jobs WHERE state = '{JobState.QUEUED}' AND not_before <= now()
    ORDER BY not_before LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
UPDATE jobs SET not_before = NULL, enqueued_at = now()
FROM due WHERE jobs.id = due.id AND state = '{JobState.QUEUED}'
RETURNING jobs.id, model, version, rows, priority, extract(epoch FROM now())::float8
"""

REQUEUE_LOST = f"""
WITH lost AS (
    SELECT id FROM jobs
    WHERE state = '{JobState.QUEUED}' AND model = %(model)s AND priority = %(priority)s
      AND enqueued_at < %(before)s AND (not_before IS NULL OR not_before <= now())
    ORDER BY enqueued_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
UPDATE jobs SET enqueued_at = now()
FROM lost WHERE jobs.id = lost.id AND state = '{JobState.QUEUED}'
RETURNING jobs.id, model, version, rows, priority, extract(epoch FROM now())::float8
"""

ORPHANED = f"""
SELECT DISTINCT worker FROM jobs
WHERE state = '{JobState.RUNNING}'
  AND NOT EXISTS (SELECT 1 FROM workers WHERE incarnation = jobs.worker AND ended_at IS NULL)
"""

RESCUE = f"""
WITH stranded AS (
    SELECT id FROM jobs WHERE state = '{JobState.RUNNING}' AND worker = ANY(%(workers)s::uuid[])
    ORDER BY id LIMIT %(limit)s FOR UPDATE
), envelopes AS (SELECT jobs.id, envelope FROM jobs JOIN stranded USING (id))
UPDATE jobs SET state = '{JobState.QUEUED}', worker = NULL, started_at = NULL, enqueued_at = now()
FROM envelopes
WHERE jobs.id = envelopes.id AND state = '{JobState.RUNNING}' AND worker = ANY(%(workers)s::uuid[])
RETURNING jobs.id, model, version, rows, priority, extract(epoch FROM now())::float8, envelopes.envelope
"""

EXPIRE = f"""
WITH late AS (
    SELECT id FROM jobs WHERE state = '{JobState.QUEUED}' AND deadline_at <= now()
    ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
UPDATE jobs SET state = '{JobState.EXPIRED}', finished_at = now(), error = %(error)s
FROM late WHERE jobs.id = late.id AND state = '{JobState.QUEUED}'
RETURNING jobs.id
"""

FAIL_UNSERVED = f"""
WITH versions AS (
    SELECT name AS model, version FROM models
    EXCEPT
    SELECT served.model, served.version
    FROM workers, jsonb_to_recordset(serves) AS served (model text, version int)
    WHERE coalesce(ended_at, beat_at) > now() - make_interval(secs => %(seconds)s)
), unserved AS (
    SELECT id FROM jobs JOIN versions USING (model, version)
    WHERE state = '{JobState.QUEUED}' AND created_at < now() - make_interval(secs => %(seconds)s)
    ORDER BY id LIMIT %(limit)s FOR UPDATE OF jobs SKIP LOCKED
)
UPDATE jobs SET state = '{JobState.FAILED}', finished_at = now(), rows_failed = rows, error = %(error)s
FROM unserved WHERE jobs.id = unserved.id AND state = '{JobState.QUEUED}'
RETURNING jobs.id
"""

EXPIRED_ERROR = {"code": "expired", "message": "the job had not begun when its deadline passed"}
UNSERVED_ERROR = {
    "code": "version_unavailable",
    "message": "no worker has served this model version for 10 minutes: "
    "start one, or submit for a served version",
}


@dataclass(frozen=True, slots=True)
class Requeued:
    """A job put back on the queue, whose envelope must be pushed; `envelope` carried it before."""

    due: Due
    enqueued_at: float
    envelope: UUID | None = None


class JobRepair:
    """What the duties do to jobs; each call is one guarded statement in one short transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def duty(self, key: int) -> Iterator[Cursor | None]:
        """A transaction that holds the duty's advisory lock; None when another process does the duty."""
        with self._database.transaction() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", (key,))
            if not (cursor.fetchone() or (False,))[0]:
                yield None
                return
            cursor.execute(
                "SELECT set_config('statement_timeout', %s, true)", (str(DUTY_STATEMENT_TIMEOUT_MS),)
            )
            yield cursor

    def now(self, cursor: Cursor) -> datetime:
        """Postgres' clock."""
        cursor.execute("SELECT now()")
        row = cursor.fetchone()
        assert row is not None, "SELECT now() answers one row; this is a bug"
        now: datetime = row[0]
        return now

    def oldest_queued(self) -> tuple[dict[tuple[str, Priority], datetime], datetime]:
        """The oldest `enqueued_at` among queued jobs by model and priority, and Postgres' time before."""
        with self._database.transaction() as cursor:
            now = self.now(cursor)
            cursor.execute(OLDEST_QUEUED)
            lines = cursor.fetchall()
        return {(model, Priority(priority)): oldest for model, priority, oldest in lines if oldest}, now

    def wake(self, cursor: Cursor, *, limit: int = PAGE) -> list[Requeued]:
        """Enqueue jobs whose wait for another run is over."""
        cursor.execute(WAKE, {"limit": limit})
        return [_requeued(*row) for row in cursor.fetchall()]

    def requeue_lost(
        self, cursor: Cursor, model: str, priority: Priority, *, before: datetime, limit: int = PAGE
    ) -> list[Requeued]:
        """Take queued, due jobs enqueued before `before` as lost, and enqueue them now."""
        names = {"model": model, "priority": priority, "before": before, "limit": limit}
        cursor.execute(REQUEUE_LOST, names)
        return [_requeued(*row) for row in cursor.fetchall()]

    def orphaned_workers(self, cursor: Cursor) -> list[UUID]:
        """Workers that are gone while rows still name them."""
        cursor.execute(ORPHANED)
        return [row[0] for row in cursor.fetchall()]

    def rescue(self, cursor: Cursor, workers: Collection[UUID], *, limit: int = PAGE) -> list[Requeued]:
        """Put back on the queue what dead workers were running."""
        cursor.execute(RESCUE, {"workers": list(workers), "limit": limit})
        return [_requeued(*row) for row in cursor.fetchall()]

    def expire_overdue(self, cursor: Cursor, *, limit: int = PAGE) -> int:
        """Expire queued jobs whose deadline has passed; returns how many."""
        cursor.execute(EXPIRE, {"limit": limit, "error": Json(EXPIRED_ERROR)})
        return cursor.rowcount

    def fail_unserved(self, cursor: Cursor, *, after_s: float = UNSERVED_AFTER_S, limit: int = PAGE) -> int:
        """Fail queued jobs of versions that nobody has served for `after_s` seconds; returns how many."""
        cursor.execute(FAIL_UNSERVED, {"seconds": after_s, "limit": limit, "error": Json(UNSERVED_ERROR)})
        return cursor.rowcount

    def ensure_partitions(self, cursor: Cursor) -> None:
        """Make this week's partition of jobs and the next ones, unless they exist."""
        for statement in partitions.statements(self.now(cursor)):
            cursor.execute(statement)


def _requeued(  # noqa: PLR0917 - the columns of one row, in order
    id: UUID,
    model: str,
    version: int,
    rows: int,
    priority: int,
    enqueued_at: float,
    envelope: UUID | None = None,
) -> Requeued:
    return Requeued(Due(id, model, version, rows, Priority(priority)), enqueued_at, envelope)
