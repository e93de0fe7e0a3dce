"""Jobs straight from Postgres, Redis and the object store: behind the Python client and the HTTP API."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from operator import attrgetter
from uuid import UUID

from shunter.producers.cache import FinishedCache
from shunter.producers.outputs import JobResults
from shunter.producers.publisher import Publisher
from shunter.producers.schedules.request import Schedules
from shunter.producers.schedules.scheduler import Scheduler
from shunter.producers.scoring.request import Scorings
from shunter.producers.status import JobStatus, job_status
from shunter.producers.submission import Accepted, Options
from shunter.producers.submit import Submitter
from shunter.producers.timeline import Event, timeline
from shunter.producers.waiting import Fleet, Waiting, explain_waiting
from shunter.producers.watcher import Watcher, WatcherWatch
from shunter.storage.database import Database
from shunter.storage.dead_jobs import DeadJobs
from shunter.storage.errors import (
    InvalidInput,
    NotFinished,
    PayloadError,
    UnknownJob,
)
from shunter.storage.job import Job, JobState
from shunter.storage.job_repository import JobRepository
from shunter.storage.model_registry import ModelRegistry
from shunter.storage.object_store import ObjectStore, open_object_store
from shunter.storage.outcome import StoredResult
from shunter.storage.payload import decode_rows
from shunter.storage.results import load_block
from shunter.storage.schedules.repository import ScheduleRepository
from shunter.storage.scoring.chunk import is_part
from shunter.storage.settings import Settings
from shunter.storage.worker_registry import WorkerRegistry

RESULTS_BYTES = 64 * 2**20
"""Encoded bytes of results kept, so that the items of one job are loaded and decoded once."""

NO_JOB = UUID(int=0)

PATIENCE_S = 1.0
"""A job that has been in line for longer may be there because Redis does not answer."""

STATUSES = 4096
"""Statuses of finished jobs kept, for the same reason."""


class DirectBackend:
    """Satisfies Backend with the services that the settings name; connects when first used."""

    def __init__(self, settings: Settings) -> None:
        settings.require("database_url", "redis_url", "object_store")
        self.database = Database(settings.database_url)
        self.repository = JobRepository(self.database)
        self.dead = DeadJobs(self.database)
        self.registry = ModelRegistry(self.database)
        self.workers = WorkerRegistry(self.database)
        self._store = open_object_store(settings.object_store)
        self._publisher = Publisher(settings.redis_url)
        self.watcher = Watcher(
            self.repository.states, hints=self._publisher.listen, ask_ended=self._states_with_results
        )
        self._submitter = Submitter(
            repository=self.repository, registry=self.registry, store=self._store, publisher=self._publisher
        )
        self._results: FinishedCache[JobResults] = FinishedCache(RESULTS_BYTES, size=attrgetter("size"))
        self._statuses: FinishedCache[JobStatus] = FinishedCache(STATUSES)

    def submit(self, model: str, rows: object, options: Options) -> Accepted:
        return self._submitter.submit(model, rows, options)

    def submit_many(self, model: str, rows: object, options: Options) -> Sequence[Accepted]:
        return self._submitter.submit_many(model, rows, options)

    def submit_jobs(self, model: str, jobs: object, options: Options) -> Sequence[Accepted]:
        return self._submitter.submit_jobs(model, jobs, options)

    def status(self, id: UUID) -> JobStatus:
        known = self._statuses.get(id)
        return known if known is not None else self._status(self.repository.get(id))

    def ended(self, id: UUID) -> bool:
        return self._statuses.get(id) is not None or self._results.get(id) is not None

    def watch(self) -> WatcherWatch:
        return WatcherWatch(self.watcher)

    def results(self, id: UUID) -> JobResults:
        known = self._results.get(id)
        if known is None:
            known = self.results_of([id]).get(id)
            if known is None:
                raise UnknownJob(id)
            self._results.put(id, known)
        return known

    def results_of(self, ids: Collection[UUID]) -> Mapping[UUID, JobResults]:
        return {
            id: read_results(self._store, id, stored) for id, stored in self.repository.results(ids).items()
        }

    def cancel(self, id: UUID) -> JobStatus:
        return self._status(self.repository.cancel(id))

    def redrive(self, id: UUID, *, version: int | None = None, again: bool = False) -> Accepted:
        job = self.repository.get(id)
        failed = self.dead.failed_rows(job)
        rows = decode_rows(load_block(self._store, self.dead.input(id)))
        return self._submitter.redrive(job, [rows[index] for index in failed], version=version, again=again)

    def timeline(self, id: UUID) -> Sequence[Event]:
        job = self.repository.get(id)
        worker = None if job.worker is None else self.workers.get(job.worker)
        return timeline(job, self.dead.history(id), worker)

    def statuses(self, ids: Collection[UUID]) -> Sequence[JobStatus]:
        """Those of these jobs that exist; the place in line of queued ones is not counted."""
        return self._without_place(list(self.repository.get_many(ids).values()))

    def find(
        self, *, state: JobState | None, model: str | None, before: UUID | None, limit: int
    ) -> Sequence[JobStatus]:
        """The newest jobs first; their place in line is not counted."""
        return self._without_place(self.repository.find(state=state, model=model, before=before, limit=limit))

    @property
    def scorings(self) -> Scorings:
        from shunter.producers.scoring.scorer import Scorer  # noqa: PLC0415 - pyarrow, for scoring only

        return Scorer(self.database, self.registry, self.workers, self._store)

    @property
    def schedules(self) -> Schedules:
        return Scheduler(ScheduleRepository(self.database), self.registry)

    def check_database(self) -> None:
        """Raise DatabaseUnavailable or SchemaMismatch unless Postgres answers and holds our tables."""
        self.repository.states([NO_JOB])

    def check_queue(self) -> None:
        """Raise QueueUnavailable unless Redis answers."""
        self._publisher.check()

    def close(self) -> None:
        self.watcher.close()
        self._publisher.close()
        self.database.close()

    def _states_with_results(self, ids: Collection[UUID]) -> Mapping[UUID, JobState]:
        """The states of jobs that have just ended, and in the same trip what whoever waits asks for next."""
        found = self.repository.results(ids)
        for id, stored in found.items():
            inline = stored.output is None or stored.output.inline is not None
            if stored.state.terminal and inline:
                # What cannot be read is told to whoever asks for it.
                with suppress(PayloadError, InvalidInput):
                    self._results.put(id, read_results(self._store, id, stored))
        return {id: stored.state for id, stored in found.items()}

    def _status(self, job: Job) -> JobStatus:
        if job.state is JobState.QUEUED:
            return job_status(job, self._explain(job))
        if job.state is JobState.RUNNING:
            return self._without_place([job])[0]
        status = job_status(job)
        if status.done:
            self._statuses.put(job.id, status)
        return status

    def _without_place(self, jobs: Sequence[Job]) -> Sequence[JobStatus]:
        unfinished = any(not job.state.terminal for job in jobs)
        fleet = self._fleet() if unfinished else Fleet()
        return [job_status(job, self._waiting(job, fleet, None)) for job in jobs]

    def _explain(self, job: Job) -> Waiting | None:
        # A process that has pushed nothing lately does not know whether Redis answers.
        if (datetime.now(UTC) - job.enqueued_at).total_seconds() > PATIENCE_S:
            self._publisher.look()
        return self._waiting(job, self._fleet(), self.repository.rows_ahead(job))

    def _waiting(self, job: Job, fleet: Fleet, rows_ahead: int | None) -> Waiting | None:
        return explain_waiting(
            job,
            fleet=fleet,
            rows_ahead=rows_ahead,
            now=datetime.now(UTC),
            dispatching=self._publisher.dispatching,
        )

    def _fleet(self) -> Fleet:
        workers = self.workers.present()
        if any(worker.live for worker in workers):
            return Fleet(workers)
        from shunter.migrations import newest_revision  # noqa: PLC0415 - Alembic, for a fleet that is down

        return Fleet(workers, revision=self.database.revision(), needed=newest_revision())


def read_results(store: ObjectStore, id: UUID, stored: StoredResult) -> JobResults:
    """What a stored result says, with its outputs from where they are kept; NotFinished."""
    if not stored.state.terminal:
        raise NotFinished(id, stored.state)
    block = b"" if stored.output is None else load_block(store, stored.output)
    if is_part(block):
        raise InvalidInput(
            f"job {id} is a chunk: its rows are in the scoring's output, and its metadata names it",
            code="chunk_of_scoring",
        )
    outputs = decode_rows(block) if block else [None] * stored.rows
    if len(outputs) != stored.rows:
        raise PayloadError(f"job {id} has {stored.rows} rows, and its output block {len(outputs)}")
    failures = stored.row_failures()
    return JobResults(
        id=str(id), state=stored.state, outputs=outputs, failures=failures, encoded_bytes=len(block)
    )
