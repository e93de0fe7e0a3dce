"""Jobs that begin as Celery messages: inserted as running, so that each costs one row version less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

import psycopg2

from shunter.storage import arrays, copy
from shunter.storage.database import Database, fetch_all
from shunter.storage.errors import InvalidInput
from shunter.storage.job import ClaimedJob, JobState
from shunter.storage.results import Blob
from shunter.storage.submission import Submission

KNOWN = """
SELECT now() AS now, id, model, rows, sha256(input) AS digest, input_key
FROM (SELECT) AS one LEFT JOIN jobs ON id = ANY(%s::uuid[])
"""

INSERT = """COPY jobs (id, model, version, priority, rows, input, input_key, metadata, not_before,
    deadline_at, state, worker, epoch, started_at, envelope) FROM STDIN (FORMAT binary)"""

INSERT_ENCODERS: tuple[copy.Encoder, ...] = (
    copy.uuid,
    copy.text,
    copy.integer,
    copy.smallint,
    copy.integer,
    copy.bytea,
    copy.text,
    copy.jsonb,
    copy.timestamptz,
    copy.timestamptz,
    copy.text,
    copy.uuid,
    copy.integer,
    copy.timestamptz,
    copy.uuid,
)


class Adoption(NamedTuple):
    """A checked submission with its version and its encoded rows."""

    submission: Submission
    version: int
    rows: int
    blob: Blob
    served: bool

    @property
    def id(self) -> UUID:
        """The job's id."""
        return self.submission.id

    def runs(self, now: datetime) -> bool:
        """Whether it begins as running; what is not due, too late or not served here begins queued."""
        sent = self.submission
        due = sent.not_before is None or sent.not_before <= now
        return self.served and due and (sent.deadline is None or sent.deadline > now)


class JobAdoption:
    """The second way into the jobs table, beside JobRepository.insert."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def insert(
        self, adoptions: Sequence[Adoption], *, worker: UUID
    ) -> tuple[list[ClaimedJob], dict[UUID, bool]]:
        """Insert new jobs; returns those that run here, and for known ids whether the body is the same.

        Each id may come once. InvalidInput says that Postgres cannot hold one of them; none is inserted.
        """
        by_id = {adoption.id: adoption for adoption in adoptions}
        assert len(by_id) == len(adoptions), "an id came twice; this is a bug"
        while True:
            try:
                return self._insert(by_id, worker)
            except psycopg2.errors.UniqueViolation:
                # Another worker has just inserted one of them: the next look finds it.
                continue
            except psycopg2.DataError as error:
                raise InvalidInput(f"Postgres cannot hold this submission: {error}") from error

    def _insert(
        self, by_id: Mapping[UUID, Adoption], worker: UUID
    ) -> tuple[list[ClaimedJob], dict[UUID, bool]]:
        with self._database.transaction() as cursor:
            cursor.execute(KNOWN, (arrays.uuids(by_id),))
            found = fetch_all(cursor)
            now = found[0]["now"]
            known = {row["id"]: _same(by_id[row["id"]], row) for row in found if row["id"] is not None}
            # In id order, so that workers never wait for each other in a circle.
            fresh = sorted((by_id[id] for id in by_id.keys() - known.keys()), key=_id)
            if fresh:
                rows = (_row(adoption, worker, now) for adoption in fresh)
                cursor.copy_expert(INSERT, copy.encode(rows, INSERT_ENCODERS))
        return [_claimed(adoption, now) for adoption in fresh if adoption.runs(now)], known


_id = attrgetter("id.int")


def _row(adoption: Adoption, worker: UUID, now: datetime) -> tuple[Any, ...]:
    sent = adoption.submission
    job = (
        sent.id,
        sent.model,
        adoption.version,
        sent.priority,
        adoption.rows,
        adoption.blob.inline,
        adoption.blob.key,
        sent.metadata,
        sent.not_before,
        sent.deadline,
    )
    if adoption.runs(now):
        return (*job, JobState.RUNNING, worker, 1, now, sent.id)
    return (*job, JobState.QUEUED, None, 0, None, None)


def _same(adoption: Adoption, row: dict[str, Any]) -> bool:
    if (row["model"], row["rows"]) != (adoption.submission.model, adoption.rows):
        return False
    if adoption.blob.inline is None:
        return bool(row["input_key"] == adoption.blob.key)
    return bytes(row["digest"] or b"") == sha256(adoption.blob.inline).digest()


def _claimed(adoption: Adoption, now: datetime) -> ClaimedJob:
    sent = adoption.submission
    return ClaimedJob(
        id=sent.id,
        epoch=1,
        model=sent.model,
        version=adoption.version,
        rows=adoption.rows,
        priority=sent.priority,
        attempts=0,
        deaths=0,
        deadline_in_s=None if sent.deadline is None else (sent.deadline - now).total_seconds(),
        queued_s=0.0,
        input=adoption.blob.inline,
        input_key=adoption.blob.key,
    )
