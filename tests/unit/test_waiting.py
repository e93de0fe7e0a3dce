"""Why a queued job waits."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from shunter.producers.waiting import Fleet, Waiting, explain_waiting
from shunter.storage.ids import new_id
from shunter.storage.job import Job, JobState, Priority
from shunter.storage.worker_registry import LEASE_S, Serving, Worker

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

JOB = Job(
    id=new_id(),
    tenant="default",
    model="sentiment",
    version=3,
    state=JobState.QUEUED,
    priority=Priority.STANDARD,
    rows=4,
    rows_succeeded=0,
    rows_failed=0,
    attempts=0,
    deaths=0,
    epoch=0,
    worker=None,
    error=None,
    metadata=None,
    created_at=NOW,
    enqueued_at=NOW,
    not_before=None,
    deadline_at=None,
    started_at=None,
    forward_at=None,
    finished_at=None,
    redriven_from=None,
)


def worker(serving: Serving, *, silent_s: float = 0.0) -> Worker:
    return Worker(
        incarnation=uuid4(),
        name="gpu0@host",
        host="host",
        pid=1,
        device="cuda:0",
        state="ready",
        started_at=NOW,
        silent_s=silent_s,
        serves=(serving,),
    )


READY = worker(Serving("sentiment", 3, "ready"))
FULL = worker(Serving("sentiment", 3, "waiting_for_memory"))
BROKEN = worker(Serving("sentiment", 3, "failed", "no such file: weights.pt"))


def explain(*workers: Worker, job: Job = JOB, rows_ahead: int | None = 0) -> Waiting | None:
    return explain_waiting(job, fleet=Fleet(workers), rows_ahead=rows_ahead, now=NOW)


@pytest.mark.parametrize("state", [state for state in JobState if state is not JobState.QUEUED])
def test_only_queued_jobs_wait(state: JobState) -> None:
    assert explain(job=replace(JOB, state=state)) is None
    assert explain(READY, FULL, job=replace(JOB, state=state, worker=READY.incarnation)) is None


def test_a_job_whose_worker_has_no_room_for_its_model_waits_for_memory() -> None:
    held = replace(JOB, state=JobState.RUNNING, worker=FULL.incarnation)
    for waiting in (explain(FULL), explain(FULL, BROKEN), explain(FULL, READY, job=held)):
        assert waiting is not None
        assert waiting.code == "waiting_for_memory"
        assert "gpu0@host: sentiment version 3" in waiting.message


def test_one_worker_that_has_room_is_enough() -> None:
    waiting = explain(FULL, READY)
    assert waiting is not None
    assert waiting.code == "in_line"


@pytest.mark.parametrize(
    ("ahead", "message"),
    [
        (0, "it is next in line for a worker"),
        (1, "1 row is ahead of it"),
        (512, "512 rows are ahead of it"),
        (None, "it waits in line for a worker"),
    ],
)
def test_a_served_job_waits_in_line(ahead: int | None, message: str) -> None:
    assert explain(READY, rows_ahead=ahead) == Waiting("in_line", message)


def test_a_job_backs_off_until_it_is_due() -> None:
    retried = replace(JOB, attempts=2, not_before=NOW + timedelta(seconds=30))
    assert explain(READY, job=retried) == Waiting(
        "backing_off", "it is tried again at 2026-01-02T03:04:35+00:00, after 2 attempts"
    )


def test_a_job_whose_back_off_is_over_waits_in_line() -> None:
    due = explain(READY, job=replace(JOB, not_before=NOW))
    assert due is not None
    assert due.code == "in_line"


@pytest.mark.parametrize(
    "others",
    [
        (),
        (worker(Serving("sentiment", 2, "ready")),),
        (worker(Serving("other", 3, "ready")),),
        (worker(Serving("sentiment", 3, "ready"), silent_s=LEASE_S),),
    ],
    ids=["nobody", "another version", "another model", "a silent worker"],
)
def test_a_version_that_no_live_worker_serves_is_named(others: tuple[Worker, ...]) -> None:
    waiting = explain(*others)
    assert waiting is not None
    assert waiting.code == "no_worker"
    assert "sentiment version 3" in waiting.message
    assert "shunter worker --models sentiment" in waiting.message


def test_a_model_that_fails_to_load_is_told_with_its_error() -> None:
    waiting = explain(BROKEN)
    assert waiting is not None
    assert waiting.code == "model_load_failed"
    assert "no such file: weights.pt" in waiting.message


def test_a_job_that_backs_off_tells_what_ended_its_last_run() -> None:
    error = {"code": "object_store_unavailable", "message": "No space left on device"}
    waiting = explain(READY, job=replace(JOB, not_before=NOW + timedelta(seconds=5), error=error))
    assert waiting is not None
    assert waiting.code == "backing_off"
    assert waiting.message.endswith("the last run: object_store_unavailable: No space left on device")


def test_a_job_whose_worker_is_silent_says_so() -> None:
    silent = worker(Serving("sentiment", 3, "ready"), silent_s=LEASE_S + 3)
    waiting = explain(silent, job=replace(JOB, state=JobState.RUNNING, worker=silent.incarnation))
    assert waiting is not None
    assert waiting.code == "worker_silent"
    assert "gpu0@host, which has begun it, has been silent for 13 s" in waiting.message


def test_one_worker_that_can_load_the_model_is_enough() -> None:
    waiting = explain(BROKEN, READY)
    assert waiting is not None
    assert waiting.code == "in_line"


def test_a_job_whose_envelope_could_not_be_pushed_says_so() -> None:
    waiting = explain_waiting(JOB, fleet=Fleet(), rows_ahead=0, now=NOW, dispatching=False)
    assert waiting is not None
    assert waiting.code == "dispatch_pending"


def test_a_silent_worker_that_would_serve_a_job_is_named() -> None:
    waiting = explain(worker(Serving("sentiment", 3, "ready"), silent_s=LEASE_S + 3))
    assert waiting is not None
    assert "(gpu0@host does, and has been silent for 13 s)" in waiting.message


@pytest.mark.parametrize(
    ("revision", "code"),
    [("0007", "schema_mismatch"), ("0008", "no_worker"), ("0009", "no_worker"), (None, "no_worker")],
)
def test_tables_that_no_worker_of_this_version_could_read_are_named(revision: str | None, code: str) -> None:
    fleet = Fleet([], revision=revision, needed="0008")
    waiting = explain_waiting(JOB, fleet=fleet, rows_ahead=0, now=NOW)
    assert waiting is not None
    assert waiting.code == code
    assert ("run `shunter migrate`" in waiting.message) == (code == "schema_mismatch")
