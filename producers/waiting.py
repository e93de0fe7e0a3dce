"""Why a job has not begun, in words: decided here, from what others have read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from shunter.storage.job import Job, JobState
from shunter.storage.serving import ServingState

if TYPE_CHECKING:
    from shunter.storage.worker_registry import Worker  # it loads SQLAlchemy, and `import shunter` must not


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a job waits for: a stable code for programs, a message for people."""

    code: str
    message: str

    def document(self) -> dict[str, str]:
        """The JSON form."""
        return {"code": self.code, "message": self.message}


@dataclass(frozen=True, slots=True)
class Fleet:
    """Who could run jobs: the workers that are present.

    If none is alive, also the migration that the tables are at, None if nobody knows, and the one `needed`.
    """

    workers: Sequence[Worker] = ()
    revision: str | None = None
    needed: str = ""


def explain_waiting(
    job: Job,
    *,
    fleet: Fleet,
    rows_ahead: int | None,
    now: datetime,
    dispatching: bool = True,
) -> Waiting | None:
    """What a job waits for; None unless it is queued, or its worker is silent or has no room for its model.

    `rows_ahead` is None where nobody counted; `dispatching` is False while Redis is known to be silent.
    """
    workers = fleet.workers
    if job.state is JobState.RUNNING:
        holders = [worker for worker in workers if worker.incarnation == job.worker]
        return _held_in_silence(holders) or _without_room(job, holders)
    if job.state is not JobState.QUEUED:
        return None
    if job.not_before is not None and job.not_before > now:
        return _backing_off(job, job.not_before)
    if not dispatching:
        return Waiting(
            "dispatch_pending", "Redis does not answer: the job is stored, and is dispatched when it does"
        )
    return _outdated(fleet) or _unserved(job, workers) or _without_room(job, workers) or _in_line(rows_ahead)


def _backing_off(job: Job, until: datetime) -> Waiting:
    tries = "1 attempt" if job.attempts == 1 else f"{job.attempts} attempts"
    message = f"it is tried again at {until.isoformat(timespec='seconds')}, after {tries}"
    if job.error is not None:
        message += f"; the last run: {job.error.get('code')}: {job.error.get('message')}"
    return Waiting("backing_off", message)


def _outdated(fleet: Fleet) -> Waiting | None:
    """Set when no worker of this version could read the tables."""
    if fleet.revision is None or fleet.revision >= fleet.needed:
        return None
    return Waiting(
        "schema_mismatch",
        f"no worker is alive, and the tables are at migration {fleet.revision} where this version needs "
        f"{fleet.needed}: run `shunter migrate`, then start a worker",
    )


def _unserved(job: Job, workers: Sequence[Worker]) -> Waiting | None:
    """Set when no live worker can run the job's version."""
    said = [worker.serving(job.model, job.version) for worker in workers if worker.live]
    serves = [serving for serving in said if serving is not None]
    version = f"{job.model} version {job.version}"
    if not serves:
        return Waiting(
            "no_worker",
            f"no live worker serves {version}{_silent(job, workers)}: start one with "
            f"`shunter worker --models {job.model}`, or submit to a version that is served "
            "(`shunter workers` lists them)",
        )
    if any(serving.state != ServingState.FAILED for serving in serves):
        return None
    error = next((serving.error for serving in serves if serving.error), "it gave no reason")
    return Waiting(
        "model_load_failed",
        f"{version} could not be loaded: {error}; mend the model and publish a new version",
    )


def _silent(job: Job, workers: Sequence[Worker]) -> str:
    """Who would serve a job's version, but does not beat any more."""
    silent = next((w for w in workers if not w.live and w.serving(job.model, job.version)), None)
    return "" if silent is None else f" ({silent.name} does, and has been silent for {silent.silent_s:.0f} s)"


def _held_in_silence(holders: Sequence[Worker]) -> Waiting | None:
    """Set when the worker that claimed a job has stopped beating."""
    silent = next((worker for worker in holders if not worker.live), None)
    if silent is None:
        return None
    return Waiting(
        "worker_silent",
        f"{silent.name}, which has begun it, has been silent for {silent.silent_s:.0f} s: the job goes to "
        "another worker as soon as one is alive",
    )


def _without_room(job: Job, workers: Sequence[Worker]) -> Waiting | None:
    """Set when the job's version has no engine on these workers because other models fill their memory."""
    said = [(w.name, w.serving(job.model, job.version)) for w in workers if w.live]
    serves = [(name, serving) for name, serving in said if serving and serving.state != ServingState.FAILED]
    full = [name for name, serving in serves if serving.state == ServingState.WAITING_FOR_MEMORY]
    if not serves or len(full) < len(serves):
        return None
    return Waiting(
        "waiting_for_memory",
        f"other models fill the memory of {', '.join(full)}: {job.model} version {job.version} is loaded "
        "when its turn comes",
    )


def _in_line(rows_ahead: int | None) -> Waiting:
    if rows_ahead is None:
        return Waiting("in_line", "it waits in line for a worker")
    if rows_ahead == 0:
        return Waiting("in_line", "it is next in line for a worker")
    rows = "1 row is" if rows_ahead == 1 else f"{rows_ahead} rows are"
    return Waiting("in_line", f"{rows} ahead of it")
