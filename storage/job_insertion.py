"""New jobs into Postgres, by binary COPY: an INSERT must be planned, and takes longer even for one job."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from shunter.storage import copy
from shunter.storage.database import Cursor
from shunter.storage.job import NewJob

NOT_AT_ONCE = "SET LOCAL synchronous_commit = off;"
"""Before a statement whose commit need not wait for the disk."""

# A record of a few bytes, whose commit waits for the disk and takes along whatever was written before it.
# Source: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-REPLICATION
SYNC = "SELECT pg_logical_emit_message(true, 'shunter', '')"

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

    `prefix` is said before the COPY, in its transaction and round trip.
    """
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
