"""Where a job or an item stands, as every way in shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from shunter.producers.showing import as_html, job_facts, one_line
from shunter.producers.waiting import Waiting
from shunter.storage.job import Job, JobState
from shunter.storage.outcome import RowFailure


@dataclass(frozen=True, slots=True)
class RowCounts:
    """How many rows a job has, and how many have an output or an error so far."""

    total: int
    succeeded: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class JobStatus:
    """Where a job stood when it was asked; an item reads as a job of one row.

    Attributes:
        id: the job's id, or the item's (`{job}.{index}`).
        state: queued, running, succeeded, failed, cancelled or expired; compares equal to the plain word.
            A job of which only some rows failed has succeeded: see `rows.failed`.
        waiting: while it is queued, or its worker has no room for its model, what it waits for.
        error: once it failed, `{"code": ..., "message": ...}`.
    """

    id: str
    model: str
    version: int
    state: JobState
    priority: str
    rows: RowCounts
    attempts: int
    waiting: Waiting | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None

    @property
    def done(self) -> bool:
        """Whether it has ended, well or not; it never changes again."""
        return self.state.terminal

    def __repr__(self) -> str:
        names = ("id", "state", "model", "rows", "waiting", "error")
        return one_line("JobStatus", job_facts(self), *names)

    def _repr_html_(self) -> str:
        return as_html(job_facts(self))


def job_status(job: Job, waiting: Waiting | None = None) -> JobStatus:
    """The status of a stored job."""
    return JobStatus(
        id=str(job.id),
        model=job.model,
        version=job.version,
        state=job.state,
        priority=job.priority.label,
        rows=RowCounts(job.rows, job.rows_succeeded, job.rows_failed),
        attempts=job.attempts,
        waiting=waiting,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        error=job.error,
        metadata=job.metadata,
    )


def item_status(job: JobStatus, index: int, failure: RowFailure | None) -> JobStatus:
    """The status of one row of a job; `failure` is what became of it, known once the job is done."""
    state, counts = job.state, RowCounts(1, 0, 0)
    if state in (JobState.SUCCEEDED, JobState.FAILED):
        state = JobState.SUCCEEDED if failure is None else JobState.FAILED
        counts = RowCounts(1, int(failure is None), int(failure is not None))
    error = job.error if failure is None else {"code": failure.code, "message": failure.message}
    return replace(
        job, id=f"{job.id}.{index}", state=state, rows=counts, error=error if state.terminal else None
    )
