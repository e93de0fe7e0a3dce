"""New jobs into Postgres: by binary COPY, or a small one alone by INSERT, in one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache

import orjson

from shunter.storage import copy
from shunter.storage.database import Cursor
from shunter.storage.job import NewJob

NOT_AT_ONCE = "SET LOCAL synchronous_commit = off;"
"""Before a statement whose commit need not wait for the disk."""

# A record of a few bytes, whose commit waits for the disk and takes along whatever was written before it.
# Source: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-REPLICATION
SYNC = "SELECT pg_logical_emit_message(true, 'shunter', '')"

COPY = """COPY jobs (id, model, version, rows, input, tenant, priority, deadline_at, redriven_from, metadata,
    input_key, enqueued_at) FROM STDIN (FORMAT binary)"""
"""The columns of a NewJob, in its order, and when it was stored."""

_GIVEN_OTHERWISE = {"deadline_s": ("deadline_at", "now() + make_interval(secs => %(deadline_s)s)")}

INSERTED_BYTES = 16 * 1024
"""A statement's text holds bytes as twice as many characters: a longer input goes faster by COPY."""


def insert_jobs(cursor: Cursor, jobs: Sequence[NewJob], *, prefix: str = "") -> datetime:
    """Store new jobs, all or none; returns their common `enqueued_at`, Postgres time.

    `prefix` is said before them, in their transaction and round trip.
    """
    if len(jobs) == 1 and len(jobs[0].input or b"") <= INSERTED_BYTES:
        return _insert(cursor, jobs[0], prefix)
    return _copy(cursor, jobs, prefix)


class Storing:
    """A connection that stores new jobs in two steps: first all see them, then they are on disk.

    A crash of Postgres before the second undoes the first, and whatever was made of the jobs by then.
    """

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def insert(self, jobs: Sequence[NewJob]) -> datetime:
        """Store new jobs, all or none; returns their common `enqueued_at`, Postgres time."""
        return insert_jobs(self._cursor, jobs, prefix=NOT_AT_ONCE)

    def sync(self) -> None:
        """Return once all that was committed before is on disk."""
        self._cursor.execute(SYNC)


@cache
def _statement(given: tuple[str, ...]) -> str:
    # Each column costs Postgres time, which plans this anew for each job: those without a value are left out.
    columns = [_GIVEN_OTHERWISE.get(field, (field, f"%({field})s")) for field in given]
    names, values = zip(*columns, strict=True)
    return f"INSERT INTO jobs ({', '.join(names)}) VALUES ({', '.join(values)}) RETURNING enqueued_at"


def _insert(cursor: Cursor, job: NewJob, prefix: str) -> datetime:
    given = {field: value for field, value in zip(NewJob._fields, job, strict=True) if value is not None}
    # psycopg2 spells a UUID in Python code, and a text in C.
    given["id"] = str(job.id)
    given["priority"] = int(job.priority)
    if job.metadata is not None:
        given["metadata"] = orjson.dumps(job.metadata).decode()
    cursor.execute(prefix + _statement(tuple(given)), given)
    row = cursor.fetchone()
    assert row is not None, "an INSERT of one row returns one row; this is a bug"
    enqueued_at: datetime = row[0]
    return enqueued_at


def _copy(cursor: Cursor, jobs: Sequence[NewJob], prefix: str) -> datetime:
    cursor.execute("SELECT now()")
    now: datetime = (cursor.fetchone() or (datetime.now(UTC),))[0]

    def deadline(seconds: float) -> bytes:
        return copy.timestamptz(now + timedelta(seconds=seconds))

    encoders = (
        copy.uuid,
        copy.text,
        copy.integer,
        copy.integer,
        copy.bytea,
        copy.text,
        copy.smallint,
        deadline,
        copy.uuid,
        copy.jsonb,
        copy.text,
        copy.timestamptz,
    )
    cursor.copy_expert(prefix + COPY, copy.encode(((*job, now) for job in jobs), encoders))
    return now
