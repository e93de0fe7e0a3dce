"""Jobs and items in the hands of a producer: look, wait, take the outputs, cancel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from shunter.producers.backend import Backend
from shunter.producers.outputs import JobResults, OnFailure
from shunter.producers.showing import asked_as_html, job_facts
from shunter.producers.status import JobStatus, item_status
from shunter.producers.timeline import Event
from shunter.storage.errors import ItemNotCancellable, UnknownJob, WaitTimeout
from shunter.storage.ids import item_id
from shunter.storage.job import JobState
from shunter.storage.outcome import RowFailure


class Connected(Protocol):
    """Whoever has a backend, a new one after a fork."""

    @property
    def backend(self) -> Backend:
        """The backend of this process."""


class _Handle:
    """What jobs and items have in common."""

    def __init__(self, connected: Connected, job_id: UUID) -> None:
        self._connected = connected
        self._job_id = job_id

    @property
    def id(self) -> str:
        """Its id, which `Client.job` takes, in any process."""
        # Spelled when it is asked for: of thousands of handles that are made at once, few are.
        return str(self._job_id)

    @property
    def job_id(self) -> UUID:
        """The id of the job that is stored."""
        return self._job_id

    def status(self) -> JobStatus:
        """Where it stands now. Raises UnknownJob, Unavailable."""
        return self._view(self._backend.status(self._job_id))

    def timeline(self) -> Sequence[Event]:
        """What happened to it and when: submitted, claimed by whom, failed runs, settled; an item's job's."""
        return self._backend.timeline(self._job_id)

    def wait(self, timeout: float | None = None) -> JobStatus:
        """Wait until it has ended, well or not, and return its last status.

        Args:
            timeout: seconds to wait at most; None waits as long as it takes, through outages too.

        Raises:
            WaitTimeout: the time is up; the job goes on, and can be waited for again.
        """
        finish(self._backend, self._job_id, timeout)
        return self.status()

    def outputs(self, errors: OnFailure = "raise") -> list[object]:
        """Wait for it, and return its outputs in row order.

        Args:
            errors: "raise" raises when any row failed; "none" puts None in the place of failed rows.

        Raises:
            JobFailed: it ended without a single output.
            RowsFailed: some rows failed; carries the outputs of the others and the errors.
        """
        return self._results().take(errors)

    def errors(self) -> list[RowFailure]:
        """Wait for it, and return the rows that have no output, with the reasons."""
        return list(self._results().failures)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    def _repr_html_(self) -> str:
        return asked_as_html(self, lambda: job_facts(self.status()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Handle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def _backend(self) -> Backend:
        return self._connected.backend

    def _view(self, status: JobStatus) -> JobStatus:
        return status

    def _results(self) -> JobResults:
        finish(self._backend, self._job_id, None)
        return self._backend.results(self._job_id)


class Job(_Handle):
    """A submitted job; get one from `Client.submit` or `Client.job`.

    Example:
        >>> job = client.submit("sentiment", ["fine", "awful"])
        >>> job.outputs()
        ['positive', 'negative']
    """

    def cancel(self) -> JobStatus:
        """Cancel it, whether it has begun or not; AlreadyFinished if it is too late."""
        return self._backend.cancel(self._job_id)


class Item(_Handle):
    """One row submitted by `Client.submit_many`; reads as a job of one row."""

    def __init__(self, connected: Connected, job_id: UUID, index: int) -> None:
        super().__init__(connected, job_id)
        self._index = index

    @property
    def id(self) -> str:
        return item_id(self._job_id, self._index)

    def output(self) -> object:
        """Wait for it, and return its output; JobFailed if it has none."""
        return self.outputs()[0]

    def cancel(self) -> JobStatus:
        """Always raises ItemNotCancellable: an item shares its job with other rows."""
        raise ItemNotCancellable(self.id, self._job_id)

    def _view(self, status: JobStatus) -> JobStatus:
        return view_item(self._backend, status, self._index)

    def _results(self) -> JobResults:
        return super()._results().item(self._index)


def view_item(backend: Backend, job: JobStatus, index: int) -> JobStatus:
    """The status of one row of a job; UnknownJob if the job has no such row."""
    if index >= job.rows.total:
        raise UnknownJob(item_id(UUID(job.id), index))
    # Which rows failed stands with the results, and is asked for only if it matters.
    mixed = job.rows.failed > 0 or job.state is JobState.FAILED
    failure = backend.results(UUID(job.id)).failure_of(index) if job.done and mixed else None
    return item_status(job, index, failure)


def finish(backend: Backend, job_id: UUID, timeout: float | None) -> None:
    """Return once a job has ended; WaitTimeout when the time is up, UnknownJob."""
    if backend.ended(job_id):
        return
    watch = backend.watch()
    try:
        watch.add([job_id])
        if not watch.next(timeout):
            raise WaitTimeout(f"job {job_id} has not finished within {timeout} s: it goes on, wait again")
    finally:
        watch.close()


def open_handle(connected: Connected, job_id: UUID, index: int | None) -> Job | Item:
    """The handle of a job, or of one of its rows."""
    return Job(connected, job_id) if index is None else Item(connected, job_id, index)
