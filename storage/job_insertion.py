"""New jobs into Postgres: a small one by a single statement, many by binary COPY."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import orjson

from shunter.storage import copy
from shunter.storage.database import Cursor
from shunter.storage.job import NewJob

SMALL_BYTES = 16 * 1024
"""An input of at most so much may travel as text, in the one round trip of a statement; COPY takes three."""

NOT_AT_ONCE = "SET LOCAL synchronous_commit = off;"
"""Before a statement whose commit need not wait for the disk."""

# A record of a few bytes, whose commit waits for the disk and takes along whatever was written before it.
# Source: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-REPLICATION
SYNC = "SELECT pg_logical_emit_message(true, 'shunter', '')"

INSERT_ONE = """
INSERT INTO jobs (id, tenant, model, version, priority, rows, deadline_at, redriven_from, metadata,
    input_key, input)
VALUES (%s, %s, %s, %s, %s, %s, now() + make_interval(secs => %s), %s, %s, %s, %s)
RETURNING enqueued_at
"""

COPY = """COPY jobs (id, tenant, model, version, priority, rows, deadline_at, enqueued_at, redriven_from,
    metadata, input_key, input) FROM STDIN (FORMAT binary)"""

COPY_ENCODERS: tuple[copy.Encoder, ...] = (
    copy.uuid,
    copy.text,
    copy.text,
    copy.integer,
    copy.smallint,
    copy.integer,
    copy.timestamptz,
    copy.timestamptz,
    copy.uuid,
    copy.jsonb,
    copy.text,
    copy.bytea,
)


def insert_jobs(cursor: Cursor, jobs: Sequence[NewJob], *, prefix: str = "") -> datetime:
    """Store new jobs, all or none; returns their common `enqueued_at`, Postgres time.

    `prefix` is said before the statement that stores them, in its transaction and round trip.
    """
    if len(jobs) == 1 and len(jobs[0].input or b"") <= SMALL_BYTES:
        return _insert_one(cursor, jobs[0], prefix)
    cursor.execute("SELECT now()")
    now: datetime = (cursor.fetchone() or (datetime.now(UTC),))[0]
    rows = (
        (
            job.id,
            job.tenant,
            job.model,
            job.version,
            job.priority,
            job.rows,
            None if job.deadline_s is None else now + timedelta(seconds=job.deadline_s),
            now,
            job.redriven_from,
            job.metadata,
            job.input_key,
            job.input,
        )
        for job in jobs
    )
    cursor.copy_expert(prefix + COPY, copy.encode(rows, COPY_ENCODERS))
    return now


def _insert_one(cursor: Cursor, job: NewJob, prefix: str) -> datetime:
    values = (
        job.id,
        job.tenant,
        job.model,
        job.version,
        int(job.priority),
        job.rows,
        job.deadline_s,
        job.redriven_from,
        None if job.metadata is None else orjson.dumps(job.metadata).decode(),
        job.input_key,
        job.input,
    )
    cursor.execute(prefix + INSERT_ONE, values)
    ((enqueued_at,),) = cursor.fetchall()
    return enqueued_at  # type: ignore[no-any-return]
