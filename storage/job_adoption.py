"""Jobs that begin as Celery messages: inserted as running, so that each costs one row version less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID

import psycopg2
from psycopg2.extras import Json

from shunter.storage.database import Database, fetch_all
from shunter.storage.errors import InvalidInput
from shunter.storage.job import ClaimedJob, JobState, Priority
from shunter.storage.results import Blob
from shunter.storage.submission import Submission

# A job that is not due yet, that is too late already, or whose version this worker does not serve,
# begins queued like any other.
INSERT = f"""
INSERT INTO jobs (id, model, version, priority, rows, input, input_key, metadata, not_before, deadline_at,
    state, worker, epoch, started_at, envelope)
SELECT id, model, version, priority, rows, input, input_key, metadata::jsonb, not_before, deadline_at,
    CASE WHEN due THEN '{JobState.RUNNING}' ELSE '{JobState.QUEUED}' END::job_state,
    CASE WHEN due THEN %(worker)s END, due::int, CASE WHEN due THEN now() END, CASE WHEN due THEN id END
FROM unnest(%(ids)s::uuid[], %(models)s::text[], %(versions)s::int[], %(priorities)s::smallint[],
        %(rows)s::int[], %(inputs)s::bytea[], %(input_keys)s::text[], %(metadata)s::text[],
        %(not_before)s::timestamptz[], %(deadlines)s::timestamptz[], %(served)s::bool[])
    AS sent (id, model, version, priority, rows, input, input_key, metadata, not_before, deadline_at, served),
    LATERAL (SELECT served AND (not_before IS NULL OR not_before <= now())
        AND (deadline_at IS NULL OR deadline_at > now()) AS due) AS decided
ORDER BY id
ON CONFLICT (id) DO NOTHING
RETURNING id, state, epoch, extract(epoch FROM deadline_at - now())::float8 AS deadline_in_s
"""

KNOWN = """
SELECT id, model, rows, sha256(input) AS digest, input_key FROM jobs WHERE id = ANY(%s::uuid[])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
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
        try:
            inserted, known = self._insert(by_id, worker)
        except psycopg2.DataError as error:
            raise InvalidInput(f"Postgres cannot hold this submission: {error}") from error
        running = [row for row in inserted if row["state"] == JobState.RUNNING]
        return [_claimed(by_id[row["id"]], row) for row in running], known

    def _insert(
        self, by_id: Mapping[UUID, Adoption], worker: UUID
    ) -> tuple[list[dict[str, Any]], dict[UUID, bool]]:
        with self._database.transaction() as cursor:
            cursor.execute(INSERT, {**_columns(list(by_id.values())), "worker": worker})
            inserted = fetch_all(cursor)
            rest = list(by_id.keys() - {row["id"] for row in inserted})
            if not rest:
                return inserted, {}
            cursor.execute(KNOWN, (rest,))
            return inserted, {row["id"]: _same(by_id[row["id"]], row) for row in fetch_all(cursor)}


def _columns(adoptions: Sequence[Adoption]) -> dict[str, Any]:
    sent = [adoption.submission for adoption in adoptions]
    return {
        "ids": [submission.id for submission in sent],
        "models": [submission.model for submission in sent],
        "versions": [adoption.version for adoption in adoptions],
        "priorities": [int(submission.priority) for submission in sent],
        "rows": [adoption.rows for adoption in adoptions],
        "inputs": [None if a.blob.inline is None else psycopg2.Binary(a.blob.inline) for a in adoptions],
        "input_keys": [adoption.blob.key for adoption in adoptions],
        "metadata": [None if s.metadata is None else Json(s.metadata).dumps(s.metadata) for s in sent],
        "not_before": [submission.not_before for submission in sent],
        "deadlines": [submission.deadline for submission in sent],
        "served": [adoption.served for adoption in adoptions],
    }


def _same(adoption: Adoption, row: dict[str, Any]) -> bool:
    if (row["model"], row["rows"]) != (adoption.submission.model, adoption.rows):
        return False
    if adoption.blob.inline is None:
        return bool(row["input_key"] == adoption.blob.key)
    return bytes(row["digest"] or b"") == sha256(adoption.blob.inline).digest()


def _claimed(adoption: Adoption, row: dict[str, Any]) -> ClaimedJob:
    submission = adoption.submission
    return ClaimedJob(
        id=submission.id,
        epoch=row["epoch"],
        model=submission.model,
        version=adoption.version,
        rows=adoption.rows,
        priority=Priority(submission.priority),
        attempts=0,
        deaths=0,
        deadline_in_s=row["deadline_in_s"],
        queued_s=0.0,
        input=adoption.blob.inline,
        input_key=adoption.blob.key,
    )
