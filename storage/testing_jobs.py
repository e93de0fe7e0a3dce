"""The repository of jobs without a database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import psycopg2.errors

from shunter.storage.errors import AlreadyFinished, IdempotencyConflict, UnknownJob
from shunter.storage.job import DEFAULT_TENANT, Claim, ClaimedJob, Job, JobState, NewJob
from shunter.storage.job_insertion import Storing
from shunter.storage.job_repository import MAX_AHEAD_JOBS, JobRepository, Served
from shunter.storage.outcome import Outcome, RowFailure, StoredResult, error_document
from shunter.storage.results import Blob


@dataclass(frozen=True, slots=True)
class _Row:
    job: Job
    input: bytes | None
    input_key: str | None
    output: Blob | None = None
    failures: tuple[RowFailure, ...] = ()


def _utc_now() -> datetime:
    return datetime.now(UTC)


class InMemoryJobRepository(JobRepository):
    """Jobs that live as long as the object, by the clock `now`; whoever asks for a JobRepository takes it."""

    def __init__(self, now: Callable[[], datetime] = _utc_now) -> None:
        self._now = now
        self._rows: dict[UUID, _Row] = {}
        self._keys: dict[tuple[str, str], tuple[UUID, bytes]] = {}
        self._lock = threading.RLock()

    def ping(self) -> None:
        """Always there."""

    def insert(self, jobs: Sequence[NewJob]) -> datetime:
        """Store new jobs, all or none; returns their common `enqueued_at`."""
        with self._lock:
            now = self._now()
            rows = {job.id: _new_row(job, now) for job in jobs}
            if len(rows) < len(jobs) or rows.keys() & self._rows.keys():
                raise psycopg2.errors.UniqueViolation("a job with this id exists")
            self._rows.update(rows)
            return now

    @contextmanager
    def storing(self) -> Iterator[Storing]:
        """There is no connection."""
        yield _StoringInMemory(self)

    def insert_once(self, job: NewJob, *, key: str, body_digest: bytes) -> tuple[UUID, datetime | None]:
        """Store a job under an idempotency key; returns its id and `enqueued_at`, None if it was there."""
        with self._lock:
            known = self._keys.get((job.tenant, key))
            if known is None:
                enqueued_at = self.insert([job])
                self._keys[job.tenant, key] = (job.id, body_digest)
                return job.id, enqueued_at
        known_id, known_digest = known
        if known_digest != body_digest:
            raise IdempotencyConflict(key, known_id)
        return known_id, None

    def claim(self, hints: Mapping[UUID, UUID], *, worker: UUID, served: Served) -> list[ClaimedJob]:
        """Take the queued and due ones of these jobs."""
        with self._lock:
            now = self._now()
            rows = [self._rows[id] for id in sorted(hints) if id in self._rows]
            due = [row for row in rows if _due(row.job, now) and (row.job.model, row.job.version) in served]
            return [self._take(row, worker, now) for row in due]

    def settle(self, outcomes: Sequence[Outcome], *, worker: UUID) -> set[UUID]:
        """Write outcomes whose claim still holds; returns the ids that were written."""
        with self._lock:
            now = self._now()
            written = set()
            for outcome in outcomes:
                for row in self._held(worker, {Claim(outcome.id, outcome.epoch)}):
                    self._rows[outcome.id] = _settled(row, outcome, now)
                    written.add(outcome.id)
            return written

    def held(self, worker: UUID) -> set[Claim]:
        """The claims that `worker` has."""
        with self._lock:
            rows = [row.job for row in self._rows.values()]
        return {
            Claim(job.id, job.epoch) for job in rows if job.state is JobState.RUNNING and job.worker == worker
        }

    def count_deaths(self, claims: Collection[Claim], *, worker: UUID) -> dict[UUID, int]:
        """Charge one death of an engine to each job that was in its hands; returns the new counts."""
        with self._lock:
            charged = [
                self._change(row, deaths=row.job.deaths + 1) for row in self._held(worker, set(claims))
            ]
        return {job.id: job.deaths for job in charged}

    def cancel(self, id: UUID, *, tenant: str = DEFAULT_TENANT) -> Job:
        """Cancel a job that has not finished; UnknownJob or AlreadyFinished otherwise."""
        with self._lock:
            job = self.get(id, tenant=tenant)
            if job.state is JobState.CANCELLED:
                return job
            if job.state.terminal:
                raise AlreadyFinished(id, job.state)
            return self._change(self._rows[id], state=JobState.CANCELLED, finished_at=self._now())

    def get(self, id: UUID, *, tenant: str = DEFAULT_TENANT) -> Job:
        """One job; UnknownJob if there is none."""
        found = self.get_many([id], tenant=tenant)
        if id not in found:
            raise UnknownJob(id)
        return found[id]

    def get_many(self, ids: Collection[UUID], *, tenant: str = DEFAULT_TENANT) -> dict[UUID, Job]:
        """Those of the jobs that exist."""
        return {row.job.id: row.job for row in self._of(ids, tenant)}

    def states(self, ids: Collection[UUID], *, tenant: str = DEFAULT_TENANT) -> dict[UUID, JobState]:
        """The states of those of the jobs that exist."""
        return {row.job.id: row.job.state for row in self._of(ids, tenant)}

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
        with self._lock:
            newest = [self._rows[id].job for id in sorted(self._rows, reverse=True)]
        found = [
            job
            for job in newest
            if job.tenant == tenant
            and (state is None or job.state is state)
            and (model is None or job.model == model)
            and (before is None or job.id < before)
        ]
        return found[:limit]

    def results(self, ids: Collection[UUID], *, tenant: str = DEFAULT_TENANT) -> dict[UUID, StoredResult]:
        """What those of the jobs that exist have come to."""
        return {
            row.job.id: StoredResult(row.job.state, row.job.rows, row.output, row.failures, row.job.error)
            for row in self._of(ids, tenant)
        }

    def rows_ahead(self, job: Job) -> int:
        """Rows queued before this job in its line; counts at most MAX_AHEAD_JOBS jobs."""
        with self._lock:
            jobs = [row.job for row in self._rows.values()]
        ahead = [
            other.rows
            for other in jobs
            if other.state is JobState.QUEUED
            and (other.model, other.priority) == (job.model, job.priority)
            and other.enqueued_at < job.enqueued_at
        ]
        return sum(ahead[:MAX_AHEAD_JOBS])

    def _of(self, ids: Collection[UUID], tenant: str) -> list[_Row]:
        with self._lock:
            rows = [self._rows[id] for id in ids if id in self._rows]
        return [row for row in rows if row.job.tenant == tenant]

    def _held(self, worker: UUID, claims: Collection[Claim]) -> Iterator[_Row]:
        return (self._rows[claim.id] for claim in self.held(worker).intersection(claims))

    def _take(self, row: _Row, worker: UUID, now: datetime) -> ClaimedJob:
        job = self._change(
            row,
            state=JobState.RUNNING,
            worker=worker,
            epoch=row.job.epoch + 1,
            started_at=now,
            not_before=None,
        )
        return _claimed(replace(row, job=job), now)

    def _change(self, row: _Row, **changes: Any) -> Job:
        job = replace(row.job, **changes)
        self._rows[job.id] = replace(row, job=job)
        return job


class _StoringInMemory(Storing):
    def __init__(self, jobs: InMemoryJobRepository) -> None:
        self._jobs = jobs

    def insert(self, jobs: Sequence[NewJob]) -> datetime:
        return self._jobs.insert(jobs)

    def sync(self) -> None:
        """There is no disk."""


def _new_row(new: NewJob, now: datetime) -> _Row:
    job = Job(
        id=new.id,
        tenant=new.tenant,
        model=new.model,
        version=new.version,
        state=JobState.QUEUED,
        priority=new.priority,
        rows=new.rows,
        rows_succeeded=0,
        rows_failed=0,
        attempts=0,
        deaths=0,
        epoch=0,
        worker=None,
        error=None,
        metadata=_as_jsonb(new.metadata),
        created_at=now,
        enqueued_at=now,
        not_before=None,
        deadline_at=None if new.deadline_s is None else now + timedelta(seconds=new.deadline_s),
        started_at=None,
        forward_at=None,
        finished_at=None,
        redriven_from=new.redriven_from,
    )
    return _Row(job, new.input, new.input_key)


def _due(job: Job, now: datetime) -> bool:
    return (
        job.state is JobState.QUEUED
        and (job.not_before is None or job.not_before <= now)
        and (job.deadline_at is None or job.deadline_at > now)
    )


def _claimed(row: _Row, now: datetime) -> ClaimedJob:
    job = row.job
    return ClaimedJob(
        id=job.id,
        epoch=job.epoch,
        model=job.model,
        version=job.version,
        rows=job.rows,
        priority=job.priority,
        attempts=job.attempts,
        deaths=job.deaths,
        deadline_in_s=None if job.deadline_at is None else (job.deadline_at - now).total_seconds(),
        queued_s=(now - job.enqueued_at).total_seconds(),
        input=row.input,
        input_key=row.input_key,
    )


def _settled(row: _Row, outcome: Outcome, now: datetime) -> _Row:
    job, age_s, wait_s = row.job, outcome.forward_age_s, outcome.retry_in_s
    back = outcome.state is JobState.QUEUED
    job = replace(
        job,
        state=outcome.state,
        rows_succeeded=outcome.rows_succeeded,
        rows_failed=outcome.rows_failed,
        attempts=job.attempts + int(outcome.counts_attempt),
        error=_as_jsonb(error_document(outcome.error)),
        forward_at=job.forward_at if age_s is None else now - timedelta(seconds=age_s),
        finished_at=None if back else now,
        worker=None if back else job.worker,
        started_at=None if back else job.started_at,
        enqueued_at=now if back else job.enqueued_at,
        not_before=now + timedelta(seconds=wait_s) if back and wait_s > 0 else None,
    )
    failures = tuple(RowFailure(**failure.document()) for failure in outcome.failures)
    return replace(row, job=job, output=outcome.output, failures=failures)


def _as_jsonb(value: dict[str, Any] | None) -> dict[str, Any] | None:
    """What Postgres would give back, or its refusal."""
    if value is None:
        return None
    kept: dict[str, Any] = orjson.loads(orjson.dumps(value))
    if _holds_nul(kept):
        raise psycopg2.errors.UntranslatableCharacter("\\u0000 cannot be converted to text.")
    return kept


def _holds_nul(value: Any) -> bool:
    match value:
        case str():
            return "\x00" in value
        case dict():
            return any(_holds_nul(part) for pair in value.items() for part in pair)
        case list():
            return any(_holds_nul(part) for part in value)
        case _:
            return False
