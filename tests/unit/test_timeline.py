"""What is told of a job's life, from what is stored of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from shunter.producers.timeline import Event, timeline
from shunter.storage.attempts import Attempt
from shunter.storage.ids import new_id
from shunter.storage.job import Job, JobState, Priority
from shunter.storage.worker_registry import AtWork, Serving, Worker

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def job(**changes: Any) -> Job:
    fields: dict[str, Any] = dict.fromkeys(Job.__dataclass_fields__)
    fields |= {"id": new_id(), "tenant": "default", "model": "digits", "version": 2, "rows": 3}
    fields |= {"state": JobState.QUEUED, "priority": Priority.STANDARD}
    fields |= dict.fromkeys(("epoch", "attempts", "deaths"), 0)
    fields |= {"rows_succeeded": 0, "rows_failed": 0, "created_at": BEGAN, "enqueued_at": BEGAN}
    return Job(**{**fields, **changes})


def worker(**changes: Any) -> Worker:
    fields: dict[str, Any] = {"incarnation": uuid4(), "name": "gpu0@here", "host": "here", "pid": 1}
    fields |= {"device": "cpu", "state": "ready", "started_at": BEGAN, "silent_s": 0.1}
    return Worker(**{**fields, "serves": (Serving("digits", 2, "ready"),), **changes})


def told(events: list[Event]) -> list[str]:
    return [event.what for event in events]


def test_a_new_job_was_submitted_and_published() -> None:
    (event,) = timeline(job(), [], None)
    assert event == Event(BEGAN, "submitted", "3 rows for digits version 2, standard; published")
    assert Event.from_document(event.document()) == event


def test_a_job_that_succeeded_tells_who_claimed_it_and_how_large_the_batches_there_are() -> None:
    times = {"started_at": after(1), "forward_at": after(2), "finished_at": after(3)}
    done = job(state=JobState.SUCCEEDED, epoch=1, rows_succeeded=3, **times)
    events = timeline(done, [], worker(stats={"digits:2": {"batches": 4, "rows": 50}}))
    assert told(events) == ["submitted", "claimed", "forward", "settled"]
    assert events[1].detail == "by gpu0@here, claim 1"
    assert events[2].detail.endswith("batches of this version there hold 12.5 rows on average")
    assert events[3].detail == "succeeded: 3 of 3 rows succeeded"


def test_failed_runs_stand_between_submission_and_the_last_claim() -> None:
    failed = Attempt(1, after(2), "gpu1@here", "transient", "no licence")
    again = job(state=JobState.RUNNING, epoch=2, attempts=1, enqueued_at=after(3), started_at=after(5))
    events = timeline(again, [failed], None)
    assert told(events) == ["submitted", "run_failed", "published_again", "claimed"]
    assert events[1].detail == "claim 1, by gpu1@here: transient: no licence"
    assert "1 attempt, 0 deaths of its engine so far" in events[2].detail
    assert events[3].detail == "by a worker that is forgotten, claim 2"


def test_a_job_that_backs_off_says_when_it_is_due() -> None:
    events = timeline(job(enqueued_at=after(2), not_before=after(9)), [], None)
    assert [(event.what, event.at) for event in events[1:]] == [
        ("published_again", after(2)),
        ("due", after(9)),
    ]


def test_a_running_job_tells_what_its_worker_has_in_hand() -> None:
    serving = Serving("digits", 2, "ready", at_work=AtWork("forward", rows=32, jobs=5, for_s=1.0))
    running = job(state=JobState.RUNNING, epoch=1, started_at=after(1), forward_at=after(2))
    events = timeline(running, [], worker(serves=(serving,)))
    assert events[-1].detail.endswith("its worker has 32 rows of 5 jobs in forward")


def test_a_failed_job_ends_with_its_error() -> None:
    error = {"code": "model_load_failed", "message": "no weights"}
    failed = replace(job(state=JobState.FAILED, epoch=3, finished_at=after(4)), error=error)
    first = Attempt(2, after(2), "gpu0@here", "model_load_failed", "no weights")
    events = timeline(failed, [first, replace(first, epoch=3, at=after(4))], None)
    assert told(events) == ["submitted", "run_failed", "settled"]
    assert events[-1].detail == "failed: 0 of 3 rows succeeded; model_load_failed: no weights"
