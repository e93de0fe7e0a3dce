"""Jobs in Postgres: every UPDATE names the state, the owner and the epoch that it expects."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from shunter.storage import arrays, attempts, claimed_rows, hub_statements
from shunter.storage.database import Database, fetch_all
from shunter.storage.errors import AlreadyFinished, IdempotencyConflict, UnknownJob
from shunter.storage.job import (
    DEFAULT_TENANT,
    Claim,
    ClaimedJob,
    Job,
    JobState,
    NewJob,
    Priority,
)
from shunter.storage.job_insertion import Storing, insert_jobs
from shunter.storage.outcome import Outcome, RowFailure, StoredResult
from shunter.storage.results import Blob

Served = Collection[tuple[str, int]]
"""(model, version) pairs."""

JOB_COLUMNS = """id, tenant, model, version, state, priority, rows, rows_succeeded, rows_failed, attempts,
    deaths, epoch, worker, error, metadata, created_at, enqueued_at, not_before, deadline_at, started_at,
    forward_at, finished_at, redriven_from"""

CANCEL = f"""
UPDATE jobs SET state = '{JobState.CANCELLED}', finished_at = now()
WHERE id = %(id)s AND tenant = %(tenant)s AND state IN ('{JobState.QUEUED}', '{JobState.RUNNING}')
RETURNING id
"""

COUNT_DEATHS = f"""
WITH held AS (
    SELECT id FROM jobs
    WHERE id = ANY(%(ids)s::uuid[]) AND state = '{JobState.RUNNING}' AND worker = %(worker)s
      AND (id, epoch) IN %(claims)s
    ORDER BY id FOR UPDATE
)
UPDATE jobs SET deaths = deaths + 1
FROM held
WHERE jobs.id = held.id AND jobs.id = ANY(%(ids)s::uuid[])
  AND state = '{JobState.RUNNING}' AND worker = %(worker)s AND (jobs.id, epoch) IN %(claims)s
RETURNING jobs.id, deaths
"""

HELD = f"SELECT id, epoch FROM jobs WHERE state = '{JobState.RUNNING}' AND worker = %(worker)s"

AHEAD = f"""
SELECT coalesce(sum(rows), 0) FROM (
    SELECT rows FROM jobs
    WHERE state = '{JobState.QUEUED}' AND model = %(model)s AND priority = %(priority)s
      AND enqueued_at < %(enqueued_at)s
    LIMIT %(limit)s
) AS ahead
"""

REMEMBER_KEY = """
INSERT INTO idempotency_keys (tenant, key, job_id, body_digest)
VALUES (%(tenant)s, %(key)s, %(job_id)s, %(digest)s)
ON CONFLICT (tenant, key) DO NOTHING RETURNING job_id
"""

RECALL_KEY = "SELECT job_id, body_digest FROM idempotency_keys WHERE tenant = %(tenant)s AND key = %(key)s"

MAX_AHEAD_JOBS = 10_000
"""How far `rows_ahead` counts: beyond it, "many" is answer enough."""


class JobRepository:
    """The one reader and writer of the jobs table, for producers and hubs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ping(self) -> None:
        """Ask Postgres for nothing; DatabaseUnavailable if it does not answer."""
        with self._database.statement() as cursor:
            cursor.execute("SELECT 1")

    def insert(self, jobs: Sequence[NewJob]) -> datetime:
        """Store new jobs, all or none; returns their common `enqueued_at`, Postgres time."""
        with self._database.statement() as cursor:
            return insert_jobs(cursor, jobs)

    @contextmanager
    def storing(self) -> Iterator[Storing]:
        """A connection that stores new jobs in two steps; raises as `Database.statement` does."""
        with self._database.statement() as cursor:
            yield Storing(cursor)

    def insert_once(self, job: NewJob, *, key: str, body_digest: bytes) -> tuple[UUID, datetime | None]:
        """Store a job under an idempotency key; returns its id and `enqueued_at`, None if it was there.

        Raises IdempotencyConflict when the key belongs to another body.
        """
        names = {"tenant": job.tenant, "key": key, "job_id": job.id, "digest": body_digest}
        with self._database.transaction() as cursor:
            cursor.execute(REMEMBER_KEY, names)
            if cursor.fetchone():
                return job.id, insert_jobs(cursor, [job])
            cursor.execute(RECALL_KEY, names)
            known_id, known_digest = cursor.fetchone() or (job.id, b"")
        if bytes(known_digest) != body_digest:
            raise IdempotencyConflict(key, known_id)
        return known_id, None

    def claim(self, hints: Mapping[UUID, UUID], *, worker: UUID, served: Served) -> list[ClaimedJob]:
        """Take the queued and due ones of these jobs, given as {job id: envelope id}, for `worker`."""
        if not hints or not served:
            return []
        # A claim that a crash of Postgres undoes was never made: its hub drops the job at the next
        # reconciliation, its outcome is refused, and the row is queued as it was. So nobody waits for the
        # disk; a settle does, and takes the claims before it along.
        with self._database.statement() as cursor:
            fetch = claimed_rows.fetch_one if len(hints) == 1 else claimed_rows.fetch_many
            return fetch(cursor, hub_statements.claim(hints, worker=worker, served=served))

    def settle(self, outcomes: Sequence[Outcome], *, worker: UUID) -> set[UUID]:
        """Write outcomes whose claim still holds; returns the ids that were written."""
        if not outcomes:
            return set()
        # One statement takes one round trip; a failure comes with its history, and is written with it or not.
        alone = not any(outcome.error for outcome in outcomes)
        with self._database.statement() if alone else self._database.transaction() as cursor:
            cursor.execute(*hub_statements.settle(outcomes, worker=worker))
            refused = hub_statements.refused(cursor, outcomes)
            written = [o for o in outcomes if o.id not in refused] if refused else outcomes
            attempts.record(cursor, written, worker=worker)
            return {outcome.id for outcome in written}

    def held(self, worker: UUID) -> set[Claim]:
        """The claims that the database believes `worker` has."""
        with self._database.statement() as cursor:
            cursor.execute(HELD, {"worker": worker})
            return {Claim(*row) for row in cursor.fetchall()}

    def count_deaths(self, claims: Collection[Claim], *, worker: UUID) -> dict[UUID, int]:
        """Charge one death of an engine to each job that was in its hands; returns the new counts."""
        if not claims:
            return {}
        parameters = {
            "ids": arrays.uuids(claim.id for claim in claims),
            "claims": tuple((claim.id, claim.epoch) for claim in claims),
            "worker": worker,
        }
        with self._database.statement() as cursor:
            cursor.execute(COUNT_DEATHS, parameters)
            return dict(cursor.fetchall())

    def cancel(self, id: UUID, *, tenant: str = DEFAULT_TENANT) -> Job:
        """Cancel a job that has not finished; UnknownJob or AlreadyFinished otherwise."""
        with self._database.statement() as cursor:
            cursor.execute(CANCEL, {"id": id, "tenant": tenant})
            moved = cursor.fetchone()
        job = self.get(id, tenant=tenant)
        if moved is None and job.state is not JobState.CANCELLED:
            raise AlreadyFinished(id, job.state)
        return job

    def get(self, id: UUID, *, tenant: str = DEFAULT_TENANT) -> Job:
        """One job; UnknownJob if there is none."""
        found = self.get_many([id], tenant=tenant)
        if id not in found:
            raise UnknownJob(id)
        return found[id]

    def get_many(self, ids: Collection[UUID], *, tenant: str = DEFAULT_TENANT) -> dict[UUID, Job]:
        """Those of the jobs that exist."""
        if not ids:
            return {}
        with self._database.statement() as cursor:
            cursor.execute(
                f"SELECT {JOB_COLUMNS} FROM jobs WHERE id = ANY(%s::uuid[]) AND tenant = %s",
                (arrays.uuids(ids), tenant),
            )
            return {row["id"]: _job(row) for row in fetch_all(cursor)}

    def states(self, ids: Collection[UUID], *, tenant: str = DEFAULT_TENANT) -> dict[UUID, JobState]:
        """The states of those of the jobs that exist; the cheap question that waiting asks."""
        if not ids:
            return {}
        with self._database.statement() as cursor:
            cursor.execute(
                "SELECT id, state FROM jobs WHERE id = ANY(%s::uuid[]) AND tenant = %s",
                (arrays.uuids(ids), tenant),
            )
            return {id: JobState(state) for id, state in cursor.fetchall()}

    def find(
        self,
        *,
        tenant: str = DEFAULT_TENANT,
        state: JobState | None = None,
        model: str | None = None,
        before: UUID | None = None,
        limit: int = 50,
    ) -> list[Job]:
        """The newest jobs first, older than `before`."""
        conditions = {"tenant = %(tenant)s": tenant, "state = %(state)s": state, "model = %(model)s": model}
        where = [condition for condition, value in conditions.items() if value is not None]
        if before is not None:
            where.append("id < %(before)s")
        names = {"tenant": tenant, "state": state, "model": model, "before": before, "limit": limit}
        with self._database.statement() as cursor:
            cursor.execute(
                f"SELECT {JOB_COLUMNS} FROM jobs WHERE {' AND '.join(where)} "
                "ORDER BY id DESC LIMIT %(limit)s",
                names,
            )
            return [_job(row) for row in fetch_all(cursor)]

    def results(self, ids: Collection[UUID], *, tenant: str = DEFAULT_TENANT) -> dict[UUID, StoredResult]:
        """What those of the jobs that exist have come to."""
        if not ids:
            return {}
        with self._database.statement() as cursor:
            cursor.execute(
                """SELECT id, state, rows, output, output_key, row_errors, error
                FROM jobs WHERE id = ANY(%s::uuid[]) AND tenant = %s""",
                (arrays.uuids(ids), tenant),
            )
            return {row["id"]: _stored_result(row) for row in fetch_all(cursor)}

    def rows_ahead(self, job: Job) -> int:
        """Rows queued before this job in its line; counts at most MAX_AHEAD_JOBS jobs."""
        names = {"model": job.model, "priority": job.priority, "enqueued_at": job.enqueued_at}
        with self._database.statement() as cursor:
            cursor.execute(AHEAD, {**names, "limit": MAX_AHEAD_JOBS})
            return int((cursor.fetchone() or (0,))[0])


def _job(row: dict[str, Any]) -> Job:
    return Job(**{**row, "state": JobState(row["state"]), "priority": Priority(row["priority"])})


def _stored_result(row: dict[str, Any]) -> StoredResult:
    inline, key = row["output"], row["output_key"]
    blob = None if inline is None and key is None else Blob(None if inline is None else bytes(inline), key)
    return StoredResult(
        state=JobState(row["state"]),
        rows=row["rows"],
        output=blob,
        failures=tuple(RowFailure(**failure) for failure in row["row_errors"] or ()),
        error=row["error"],
    )
