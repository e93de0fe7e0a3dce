"""The backend behind `shunter.testing`: a fleet of this process, without a service, that runs when asked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from threading import RLock
from typing import NoReturn
from uuid import UUID, uuid4

from shunter.producers.direct import read_results
from shunter.producers.outputs import JobResults
from shunter.producers.shared_commits import ANSWERED, SupportsClose
from shunter.producers.status import JobStatus, job_status
from shunter.producers.submission import Accepted, Options
from shunter.producers.submit import Submitter
from shunter.producers.timeline import Event, timeline
from shunter.storage.envelope import Envelope
from shunter.storage.errors import InvalidInput, UnknownJob
from shunter.storage.job import ClaimedJob
from shunter.storage.model_registry import ModelRegistry, RegisteredModel
from shunter.storage.testing import InMemoryJobRepository, InMemoryObjectStore
from shunter.workers.in_process import InProcessEngine

ModelKey = tuple[str, int]


class Shelf(ModelRegistry):
    """A registry of models that stay the same."""

    def __init__(self, models: Iterable[RegisteredModel]) -> None:
        self._models = sorted(models, key=lambda model: (model.name, model.version))

    def list(self) -> Sequence[RegisteredModel]:
        """Every version, by name and rising version."""
        return self._models


class InMemoryBackend:
    """Satisfies Backend. Jobs run once somebody looks at one: so jobs submitted before share batches.

    Nothing is waited for: a job that is to be tried again later has its clock put forward.
    """

    def __init__(
        self,
        models: Iterable[RegisteredModel],
        engines: Mapping[ModelKey, InProcessEngine],
        store: InMemoryObjectStore,
    ) -> None:
        self.engines = engines
        self._store = store
        self._skipped = timedelta()
        self._repository = InMemoryJobRepository(self._now)
        self._submitter = Submitter(
            repository=self._repository, registry=Shelf(models), store=store, publisher=self
        )
        self._due: dict[UUID, UUID] = {}
        self._worker = uuid4()
        self._lock = RLock()

    def publish(self, envelopes: Iterable[Envelope]) -> SupportsClose:
        """What a submission does last: the jobs are due."""
        with self._lock:
            self._due.update((id, envelope.id) for envelope in envelopes for id in envelope.ids)
        return ANSWERED

    def submit(self, model: str, rows: object, options: Options) -> Accepted:
        return self._submitter.submit(model, rows, options)

    def submit_many(self, model: str, rows: object, options: Options) -> Sequence[Accepted]:
        return self._submitter.submit_many(model, rows, options)

    def submit_jobs(self, model: str, jobs: object, options: Options) -> Sequence[Accepted]:
        return self._submitter.submit_jobs(model, jobs, options)

    def status(self, id: UUID) -> JobStatus:
        self._run()
        return job_status(self._repository.get(id))

    def timeline(self, id: UUID) -> Sequence[Event]:
        self._run()
        return timeline(self._repository.get(id), [], None)

    def ended(self, id: UUID) -> bool:
        return False

    def watch(self) -> InMemoryWatch:
        return InMemoryWatch(self)

    def results(self, id: UUID) -> JobResults:
        found = self.results_of([id])
        if id not in found:
            raise UnknownJob(id)
        return found[id]

    def results_of(self, ids: Collection[UUID]) -> Mapping[UUID, JobResults]:
        self._run()
        stored = self._repository.results(ids)
        return {id: read_results(self._store, id, result) for id, result in stored.items()}

    def cancel(self, id: UUID) -> JobStatus:
        return job_status(self._repository.cancel(id))

    def finished(self, ids: Collection[UUID]) -> list[UUID]:
        """Those of these jobs that have ended, after everything that is due has run."""
        self._run()
        states = self._repository.states(ids)
        for id in ids:
            if id not in states:
                raise UnknownJob(id)
        return [id for id, state in states.items() if state.terminal]

    @property
    def scorings(self) -> NoReturn:
        raise InvalidInput("the in-memory client has no scorings: use `shunter.local()`, a real small fleet")

    @property
    def schedules(self) -> NoReturn:
        raise InvalidInput("the in-memory client has no schedules: use `shunter.local()`, a real small fleet")

    def redrive(self, id: UUID, *, version: int | None = None, again: bool = False) -> NoReturn:
        raise InvalidInput("the in-memory client has no redrive: use `shunter.local()`, a real small fleet")

    def close(self) -> None:
        """Nothing is held."""

    def _run(self) -> None:
        with self._lock:
            while self._due:
                due, self._due = self._due, {}
                claimed = self._repository.claim(due, worker=self._worker, served=list(self.engines))
                for key in dict.fromkeys((job.model, job.version) for job in claimed):
                    self._run_jobs(key, [job for job in claimed if (job.model, job.version) == key])

    def _run_jobs(self, key: ModelKey, jobs: Sequence[ClaimedJob]) -> None:
        outcomes = self.engines[key].run(jobs)
        self._repository.settle(outcomes, worker=self._worker)
        again = [outcome for outcome in outcomes if not outcome.state.terminal]
        if again:
            self._skipped += timedelta(seconds=max(outcome.retry_in_s for outcome in again))
            self._due.update((outcome.id, uuid4()) for outcome in again)

    def _now(self) -> datetime:
        return datetime.now(UTC) + self._skipped


class InMemoryWatch:
    """Satisfies Watch: whatever is watched has ended once it has been asked for."""

    def __init__(self, backend: InMemoryBackend) -> None:
        self._backend = backend
        self._ids: set[UUID] = set()

    def add(self, ids: Collection[UUID]) -> None:
        self._ids.update(ids)

    def next(self, timeout_s: float | None) -> Sequence[UUID]:
        finished = self._backend.finished(self._ids)
        self._ids.difference_update(finished)
        return finished

    def close(self) -> None:
        """Nothing is held."""
