"""New jobs into Postgres: by binary COPY, or a small one alone by INSERT, in one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta

import orjson

from shunter.storage import copy
from shunter.storage.database import Cursor
from shunter.storage.job import NewJob

NOT_AT_ONCE = "SET LOCAL synchronous_commit = off;"
"""Before a statement whose commit need not wait for the disk."""

# A record of a few bytes, whose commit waits for the disk and takes along whatever was written before it.
# Source: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-REPLICATION
SYNC = "SELECT pg_logical_emit_message(true, 'shunter', '')"

COLUMNS = """id, tenant, model, version, priority, rows, deadline_at, enqueued_at, redriven_from, metadata,
    input_key, input"""

COPY = f"COPY jobs ({COLUMNS}) FROM STDIN (FORMAT binary)"

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


INSERT = f"""
INSERT INTO jobs ({COLUMNS})
VALUES (%(id)s, %(tenant)s, %(model)s, %(version)s, %(priority)s, %(rows)s,
    now() + make_interval(secs => %(deadline_s)s), now(), %(redriven_from)s, %(metadata)s, %(input_key)s,
    %(input)s)
RETURNING enqueued_at
"""

_FIELDS = tuple(field.name for field in fields(NewJob))

INSERTED_BYTES = 16 * 1024
"""A statement's text holds bytes as twice as many characters: a longer input goes faster by COPY."""


def insert_jobs(cursor: Cursor, jobs: Sequence[NewJob], *, prefix: str = "") -> datetime:
    """Store new jobs, all or none; returns their common `enqueued_at`, Postgres time.

    `prefix` is said before them, in their transaction and round trip.
    """
    if len(jobs) == 1 and len(jobs[0].input or b"") <= INSERTED_BYTES:
        return _insert(cursor, jobs[0], prefix)
    return _copy(cursor, jobs, prefix)


def _insert(cursor: Cursor, job: NewJob, prefix: str) -> datetime:
    values = {field: getattr(job, field) for field in _FIELDS}
    metadata = None if job.metadata is None else orjson.dumps(job.metadata).decode()
    cursor.execute(prefix + INSERT, {**values, "priority": int(job.priority), "metadata": metadata})
    row = cursor.fetchone()
    assert row is not None, "an INSERT of one row returns one row; this is a bug"
    enqueued_at: datetime = row[0]
    return enqueued_at


def _copy(cursor: Cursor, jobs: Sequence[NewJob], prefix: str) -> datetime:
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
