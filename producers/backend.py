"""What a client needs of the place where jobs are kept: met by Postgres and Redis, and by the HTTP API."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from shunter.producers.outputs import JobResults
from shunter.producers.schedules.request import Schedules
from shunter.producers.scoring.request import Scorings
from shunter.producers.status import JobStatus
from shunter.producers.submission import Accepted, Options
from shunter.producers.timeline import Event


class Watch(Protocol):
    """Waits for some jobs at once; used by one thread."""

    def add(self, ids: Collection[UUID]) -> None:
        """Watch these jobs too."""

    def next(self, timeout_s: float | None) -> Sequence[UUID]:
        """The jobs that have finished and were not told yet: at least one, or none when the time is up.

        Outages are waited out. Raises UnknownJob.
        """

    def close(self) -> None:
        """Stop watching."""


class Backend(Protocol):
    """Jobs as a client sees them; safe for threads. Every call may raise Unavailable."""

    def submit(self, model: str, rows: object, options: Options) -> Accepted:
        """Accept one job."""

    def submit_many(self, model: str, rows: object, options: Options) -> Sequence[Accepted]:
        """Accept many rows, packed into jobs in their order: all, or an error and none is left to run."""

    def submit_jobs(self, model: str, jobs: object, options: Options) -> Sequence[Accepted]:
        """Accept a job for each list of rows: all, or an error and none is left to run."""

    def status(self, id: UUID) -> JobStatus:
        """Where a job stands; UnknownJob."""

    def timeline(self, id: UUID) -> Sequence[Event]:
        """What happened to a job, in the order of time; UnknownJob."""

    def ended(self, id: UUID) -> bool:
        """Whether a job is known to have finished, without asking anybody."""

    def watch(self) -> Watch:
        """Begin to wait for jobs."""

    def results(self, id: UUID) -> JobResults:
        """What a finished job came to; kept a while for the next question. UnknownJob, NotFinished."""

    def results_of(self, ids: Collection[UUID]) -> Mapping[UUID, JobResults]:
        """What finished jobs came to, in one question and kept nowhere; leaves out unknown ones."""

    def cancel(self, id: UUID) -> JobStatus:
        """Cancel a job; UnknownJob, AlreadyFinished."""

    @property
    def scorings(self) -> Scorings:
        """The scorings of datasets."""

    @property
    def schedules(self) -> Schedules:
        """The schedules of such scorings."""

    def redrive(self, id: UUID, *, version: int | None = None, again: bool = False) -> Accepted:
        """Run the failed rows of a job again, as a new job; UnknownJob, NotRedrivable, UnknownModel."""

    def close(self) -> None:
        """Let go of connections and threads."""
