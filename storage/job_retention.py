"""Statements of retention: what has been kept long enough goes, whole weeks at once where that is possible.

Rows go first, and their objects follow when the sweep finds that no row names them any more. So a kill
between the two leaves objects that the next sweep takes, and never a row whose object is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from psycopg2 import errors, sql

from shunter.storage import failpoints, partitions
from shunter.storage.database import Cursor, Database
from shunter.storage.job import TERMINAL_STATES, JobState

PAGE = 2_000
"""Rows removed by one statement."""

LOCK_TIMEOUT_MS = 2_000
"""Dropping a partition waits for every statement on jobs, and all others wait for it: no longer than this."""

_TERMINAL = ", ".join(f"'{state}'" for state in sorted(TERMINAL_STATES))

OLD_ENOUGH = f"""state IN ({_TERMINAL}) AND finished_at < now() - CASE WHEN state = '{JobState.FAILED}'
    THEN make_interval(secs => %(keep_failed_s)s) ELSE make_interval(secs => %(keep_s)s) END"""

QUEUED, RUNNING = f"state = '{JobState.QUEUED}'", f"state = '{JobState.RUNNING}'"

PARTITIONS = """
SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'jobs'::regclass ORDER BY 1
"""

DELETE_KEYS = """
DELETE FROM idempotency_keys WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM idempotency_keys AS old
    WHERE created_at < now() - make_interval(secs => %(keep_s)s)
      AND NOT EXISTS (SELECT FROM jobs WHERE id = old.job_id)
    LIMIT %(limit)s))
"""

DELETE_ATTEMPTS = """
DELETE FROM attempts WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM attempts AS old
    WHERE at < now() - make_interval(secs => %(keep_s)s)
      AND NOT EXISTS (SELECT FROM jobs WHERE id = old.job_id)
    LIMIT %(limit)s))
"""

DELETE_QUARANTINE = """
DELETE FROM quarantine WHERE id = ANY(ARRAY(
    SELECT id FROM quarantine WHERE created_at < now() - make_interval(secs => %(keep_failed_s)s)
    LIMIT %(limit)s))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How many seconds what has ended is kept; failed jobs and quarantine may be kept longer."""

    keep_s: float
    keep_failed_s: float


class JobRetention:
    """Removes what is old enough; each call is a short transaction of its own."""

    def __init__(self, database: Database, keep: Keep) -> None:
        self._database = database
        self._names = {"keep_s": keep.keep_s, "keep_failed_s": keep.keep_failed_s, "limit": PAGE}

    def weeks(self) -> list[str]:
        """The partitions whose whole week is older than the retention, and the default one."""
        with self._database.transaction() as cursor:
            cursor.execute("SELECT now() - make_interval(secs => %(keep_s)s)", self._names)
            ((before,),) = cursor.fetchall()
            cursor.execute(PARTITIONS)
            return [name for (name,) in cursor.fetchall() if _is_past(name, before)]

    def drop(self, partition: str) -> bool:
        """Drop a week in which every job is old enough; False if one is not, or somebody is in the way."""
        if partition == partitions.DEFAULT:
            return False
        table = sql.Identifier(partition)
        with self._database.transaction() as cursor:
            if self._holds(cursor, table, f"({OLD_ENOUGH}) IS NOT TRUE") or not _lock_jobs(cursor):
                return False
            # What has ended never changes. What came meanwhile, under an old id, is in the partial indexes.
            if self._holds(cursor, table, QUEUED) or self._holds(cursor, table, RUNNING):
                return False
            failpoints.hit("retention.locked")
            cursor.execute(sql.SQL("DROP TABLE {}").format(table))
        return True

    def delete_page(self, partition: str) -> int:
        """Remove some old jobs of a week that cannot be dropped yet; returns how many."""
        statement = sql.SQL(
            "DELETE FROM {table} WHERE id = ANY(ARRAY(SELECT id FROM {table} WHERE "
            + OLD_ENOUGH
            + " ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED))"
        )
        return self._delete(statement.format(table=sql.Identifier(partition)))

    def others(self) -> tuple[Callable[[], int], ...]:
        """What removes a page of idempotency keys, attempts and quarantine; each returns how many."""
        return (
            lambda: self._delete(DELETE_KEYS),
            lambda: self._delete(DELETE_ATTEMPTS),
            lambda: self._delete(DELETE_QUARANTINE),
        )

    def _holds(self, cursor: Cursor, table: sql.Identifier, condition: str) -> bool:
        statement = sql.SQL("SELECT EXISTS (SELECT FROM {table} WHERE " + condition + ")")
        cursor.execute(statement.format(table=table), self._names)
        return bool((cursor.fetchone() or (True,))[0])

    def _delete(self, statement: str | sql.Composed) -> int:
        with self._database.transaction() as cursor:
            cursor.execute(statement, self._names)
            return cursor.rowcount


def _lock_jobs(cursor: Cursor) -> bool:
    """Whether nobody uses jobs now; the transaction is of no more use if somebody does."""
    cursor.execute("SELECT set_config('lock_timeout', %s, true)", (str(LOCK_TIMEOUT_MS),))
    try:
        cursor.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
    except (errors.LockNotAvailable, errors.DeadlockDetected):
        return False
    return True


def _is_past(partition: str, before: datetime) -> bool:
    end = partitions.end_of(partition)
    return end is None or end <= before
