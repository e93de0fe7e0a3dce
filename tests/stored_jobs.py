"""Jobs to store, outcomes to settle them with, and workers to claim them, for tests of the repositories."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from shunter.storage.database import Database
from shunter.storage.ids import new_id
from shunter.storage.job import ClaimedJob, JobState, Move, NewJob
from shunter.storage.job_repository import JobRepository
from shunter.storage.outcome import Outcome
from shunter.storage.results import Blob
from shunter.storage.worker_registry import NewWorker, Serving

SERVED = [("digits", 1)]

SETTLING: dict[Move, JobState] = {
    Move.SUCCEED: JobState.SUCCEEDED,
    Move.FAIL: JobState.FAILED,
    Move.RETRY: JobState.QUEUED,
    Move.RETURN: JobState.QUEUED,
    Move.EXPIRE: JobState.EXPIRED,
}
"""The moves that a hub makes by settling, and where they lead."""


def new_job(**changes: Any) -> NewJob:
    """A job to store, with everything that a test does not care about filled in."""
    fields: dict[str, Any] = {"id": new_id(), "model": "digits", "version": 1, "rows": 1, "input": b"rows"}
    return NewJob(**{**fields, **changes})


def insert(repository: JobRepository, **changes: Any) -> UUID:
    """The id of a job that has just been stored."""
    job = new_job(**changes)
    repository.insert([job])
    return job.id


def claim(repository: JobRepository, *ids: UUID, worker: UUID) -> list[ClaimedJob]:
    """What `worker` gets of these jobs, in order of their ids."""
    claimed = repository.claim(dict.fromkeys(ids, uuid4()), worker=worker, served=SERVED)
    return sorted(claimed, key=lambda job: job.id)


def insert_claimed(repository: JobRepository, worker: UUID, **changes: Any) -> ClaimedJob:
    """A new job in the hands of `worker`."""
    (job,) = claim(repository, insert(repository, **changes), worker=worker)
    return job


def outcome(job: ClaimedJob, move: Move = Move.SUCCEED, **changes: Any) -> Outcome:
    """How a run of this job ended."""
    fields: dict[str, Any] = {"id": job.id, "epoch": job.epoch, "move": move}
    if move is Move.SUCCEED:
        fields |= {"output": Blob(b"outputs", None), "rows_succeeded": job.rows, "forward_age_s": 0.0}
    return Outcome(**{**fields, **changes})


AGE_JOBS = """
UPDATE jobs SET created_at = created_at - wait, enqueued_at = enqueued_at - wait,
    not_before = not_before - wait, deadline_at = deadline_at - wait, started_at = started_at - wait,
    forward_at = forward_at - wait, finished_at = finished_at - wait
FROM make_interval(secs => %s) AS wait
"""

AGE_WORKERS = """
UPDATE workers SET started_at = started_at - wait, beat_at = beat_at - wait, ended_at = ended_at - wait
FROM make_interval(secs => %s) AS wait
"""


def age_jobs(database: Database, seconds: float) -> None:
    """Let every job be older."""
    with database.transaction() as cursor:
        cursor.execute(AGE_JOBS, (seconds,))


def age_workers(database: Database, seconds: float) -> None:
    """Let every worker be older, its last beat and its end included."""
    with database.transaction() as cursor:
        cursor.execute(AGE_WORKERS, (seconds,))


def new_worker(*, version: int = 1, **changes: Any) -> NewWorker:
    """A hub that serves one version of the digits."""
    fields: dict[str, Any] = {
        "incarnation": uuid4(),
        "name": "gpu0@here",
        "host": "here",
        "pid": 1,
        "device": "cpu",
        "serves": (Serving("digits", version),),
    }
    return NewWorker(**{**fields, **changes})
