"""What Flower is told of an envelope."""

from __future__ import annotations

from shunter.storage.job import ClaimedJob, JobState, Move
from shunter.storage.outcome import Outcome
from shunter.workers.envelope_log import EnvelopeLog, TaskEvent
from tests.jobs import claimed_job, envelope_of


def outcome(
    job: ClaimedJob, move: Move = Move.SUCCEED, *, rows_succeeded: int = 0, rows_failed: int = 0
) -> Outcome:
    state = {Move.SUCCEED: JobState.SUCCEEDED, Move.FAIL: JobState.FAILED}.get(move, JobState.QUEUED)
    error = {"code": "bad", "message": "no row succeeded"} if move is Move.FAIL else None
    return Outcome(
        id=job.id,
        epoch=1,
        move=move,
        state=state,
        error=error,
        rows_succeeded=rows_succeeded,
        rows_failed=rows_failed,
    )


def types(events: list[TaskEvent]) -> list[str]:
    return [event.type for event in events]


def test_an_envelope_starts_with_its_first_job_and_ends_with_its_last() -> None:
    log = EnvelopeLog()
    first, second = claimed_job(rows=200), claimed_job(rows=56)
    envelope = envelope_of(first, second)
    received = log.received(envelope, 10.0)
    assert received.fields["name"] == "infer.digits"
    assert "2 jobs, 256 rows" in received.fields["args"]
    assert str(first.id) in received.fields["kwargs"]
    assert log.claimed(envelope, envelope.ids, 10.0) == []
    assert types(log.begun([first.id], 11.0)) == ["task-started"]
    assert log.begun([second.id], 11.5) == []
    assert log.settled(outcome(first, rows_succeeded=200), 12.0) == []
    (end,) = log.settled(outcome(second, rows_succeeded=54, rows_failed=2), 13.0)
    assert (end.type, end.fields["result"], end.fields["runtime"]) == (
        "task-succeeded",
        "254 succeeded, 2 failed",
        2.0,
    )


def test_an_envelope_of_failed_jobs_fails_with_the_reason() -> None:
    log = EnvelopeLog()
    job = claimed_job()
    envelope = envelope_of(job)
    log.claimed(envelope, envelope.ids, 0.0)
    events = log.settled(outcome(job, Move.FAIL, rows_failed=1), 1.0)
    assert types(events) == ["task-started", "task-failed"]
    assert events[-1].fields["exception"] == "0 succeeded, 1 failed: no row succeeded"


def test_an_envelope_whose_jobs_go_back_is_to_be_retried() -> None:
    log = EnvelopeLog()
    job = claimed_job()
    log.claimed(envelope_of(job), [job.id], 0.0)
    assert types(log.settled(outcome(job, Move.RETURN), 1.0))[-1] == "task-retried"


def test_an_envelope_without_claimable_jobs_ends_at_once() -> None:
    log = EnvelopeLog()
    assert types(log.claimed(envelope_of(claimed_job()), [], 0.0)) == ["task-started", "task-succeeded"]


def test_outcomes_of_unknown_jobs_tell_nothing() -> None:
    assert EnvelopeLog().settled(outcome(claimed_job()), 0.0) == []


def test_a_duplicate_of_what_is_in_hand_does_not_end_it() -> None:
    log = EnvelopeLog()
    job = claimed_job()
    envelope = envelope_of(job)
    log.claimed(envelope, [job.id], 0.0)
    assert log.claimed(envelope, [], 1.0) == []
    assert log.refused(envelope.id, "another body", 1.0) == []
    assert types(log.settled(outcome(job), 2.0)) == ["task-started", "task-succeeded"]


def test_what_was_quarantined_or_went_back_ends_too() -> None:
    envelope = envelope_of(claimed_job())
    (refused,) = EnvelopeLog().refused(envelope.id, "no such model", 0.0)
    assert (refused.type, refused.fields["exception"]) == ("task-failed", "quarantined: no such model")
    assert EnvelopeLog().gone_back(envelope, 0.0).type == "task-retried"
