"""What happened to a job and when, from what Postgres keeps of it; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from shunter.storage.batch_report import join_key
from shunter.storage.job import Job, JobState

if TYPE_CHECKING:
    from shunter.storage.attempts import Attempt  # they load SQLAlchemy, and `import shunter` must not
    from shunter.storage.worker_registry import Worker


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job: `what` is one word for programs, `detail` is for people."""

    at: datetime
    what: str
    detail: str

    def document(self) -> dict[str, str]:
        """The JSON form."""
        return {"at": self.at.isoformat(), "what": self.what, "detail": self.detail}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Event:
        """The event that a document tells of."""
        return cls(datetime.fromisoformat(document["at"]), document["what"], document["detail"])


def timeline(job: Job, failed_runs: Sequence[Attempt], worker: Worker | None) -> list[Event]:
    """The events of a job in the order of time; `worker` is who claimed it last, if that is still known.

    Only the last claim and the failed runs that are kept have a time: a job that was rescued or returned
    shows it by the number of its claim.
    """
    # What ended the last run is told with the end of the job.
    earlier = [run for run in failed_runs if run.epoch != job.epoch or not job.state.terminal]
    events = [_submitted(job), *_runs(earlier), *_published_again(job), *_run(job, worker)]
    if job.finished_at is not None:
        events.append(Event(job.finished_at, "settled", _ending(job)))
    return sorted(events, key=lambda event: event.at)


def _submitted(job: Job) -> Event:
    again = f", redrives {job.redriven_from}" if job.redriven_from else ""
    rows = _count(job.rows, "row")
    detail = f"{rows} for {job.model} version {job.version}, {job.priority.label}{again}"
    if job.enqueued_at <= job.created_at:
        detail += "; published"
    return Event(job.created_at, "submitted", detail)


def _runs(failed_runs: Sequence[Attempt]) -> Iterator[Event]:
    for run in failed_runs:
        by = run.worker or "a worker that is forgotten"
        yield Event(run.at, "run_failed", f"claim {run.epoch}, by {by}: {run.code}: {run.message}")


def _published_again(job: Job) -> Iterator[Event]:
    if job.enqueued_at > job.created_at:
        why = "after a failed run, a rescue, a return or a lost envelope"
        counted = f"{_count(job.attempts, 'attempt')}, {_count(job.deaths, 'death')} of its engine"
        yield Event(job.enqueued_at, "published_again", f"{why}; {counted} so far")
    if job.not_before is not None and job.state is JobState.QUEUED:
        yield Event(job.not_before, "due", "it is tried again from then on")


def _run(job: Job, worker: Worker | None) -> Iterator[Event]:
    if job.started_at is not None:
        by = f"by {worker.name}" if worker is not None else "by a worker that is forgotten"
        yield Event(job.started_at, "claimed", f"{by}, claim {job.epoch}")
    if job.forward_at is not None:
        batches = "" if worker is None else _batches(job, worker)
        yield Event(job.forward_at, "forward", f"the model saw the first of its rows{batches}")


def _batches(job: Job, worker: Worker) -> str:
    """What that worker tells of the batches of this version; of which this job was in, nothing is kept."""
    told = worker.stats.get(join_key(job.model, job.version))
    serving = worker.serving(job.model, job.version)
    if job.state is JobState.RUNNING and serving is not None and serving.at_work is not None:
        work = serving.at_work
        return f"; its worker has {_count(work.rows, 'row')} of {_count(work.jobs, 'job')} in {work.stage}"
    if not told or not told.get("batches"):
        return ""
    return f"; batches of this version there hold {told['rows'] / told['batches']:.1f} rows on average"


def _ending(job: Job) -> str:
    told = f"{job.state}: {job.rows_succeeded} of {_count(job.rows, 'row')} succeeded"
    if job.error is not None:
        told += f"; {job.error.get('code')}: {job.error.get('message')}"
    return told


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
