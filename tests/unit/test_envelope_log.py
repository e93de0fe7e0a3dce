"""What Flower is told of an envelope."""

from __future__ import annotations

from shunter.storage.envelope import Envelope
from shunter.storage.job import ClaimedJob, Move
from shunter.storage.outcome import BatchNote, Outcome
from shunter.workers.envelope_log import EnvelopeLog, InHand, TaskEvent
from shunter.workers.intake import Mail
from shunter.workers.lists import Bunch
from tests.jobs import claimed_job, envelope_of


def outcome(
    job: ClaimedJob,
    move: Move = Move.SUCCEED,
    *,
    rows_succeeded: int = 0,
    rows_failed: int = 0,
    batches: tuple[BatchNote, ...] = (),
) -> Outcome:
    error = {"code": "bad", "message": "no row succeeded"} if move is Move.FAIL else None
    return Outcome(
        id=job.id,
        epoch=1,
        batches=batches,
        move=move,
        error=error,
        rows_succeeded=rows_succeeded,
        rows_failed=rows_failed,
    )


def listened() -> EnvelopeLog:
    return EnvelopeLog(lambda: True)


def mail_of(*envelopes: Envelope) -> Mail:
    return Mail(Bunch("bunch", ()), envelopes, (), ())


def types(events: list[TaskEvent]) -> list[str]:
    return [event.type for event in events]


def test_an_envelope_starts_with_its_first_job_and_ends_with_its_last() -> None:
    log = listened()
    first, second = claimed_job(rows=200), claimed_job(rows=56)
    envelope = envelope_of(first, second)
    (received,) = log.received(mail_of(envelope), 10.0)
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


def test_an_envelope_tells_which_batches_its_rows_were_in() -> None:
    log = listened()
    jobs = [claimed_job(rows=200), claimed_job(rows=56)]
    envelope = envelope_of(*jobs)
    log.claimed(envelope, envelope.ids, 0.0)
    shared, alone = BatchNote(1, 192, "full"), BatchNote(2, 64, "idle")
    assert log.settled(outcome(jobs[0], rows_succeeded=200, batches=(shared, alone)), 1.0) == []
    events = log.settled(outcome(jobs[1], rows_succeeded=56, batches=(alone,)), 1.0)
    result = "256 succeeded, 0 failed in 2 batches of 64-192 rows (1 full, 1 idle)"
    assert events[-1].fields["result"] == result


def test_an_envelope_of_failed_jobs_fails_with_the_reason() -> None:
    log = listened()
    job = claimed_job()
    envelope = envelope_of(job)
    log.claimed(envelope, envelope.ids, 0.0)
    events = log.settled(outcome(job, Move.FAIL, rows_failed=1), 1.0)
    assert types(events) == ["task-started", "task-failed"]
    assert events[-1].fields["exception"] == "0 succeeded, 1 failed: no row succeeded"


def test_an_envelope_whose_jobs_go_back_is_to_be_retried() -> None:
    log = listened()
    job = claimed_job()
    log.claimed(envelope_of(job), [job.id], 0.0)
    assert types(log.settled(outcome(job, Move.RETURN), 1.0))[-1] == "task-retried"


def test_an_envelope_without_claimable_jobs_ends_at_once() -> None:
    log = listened()
    assert types(log.claimed(envelope_of(claimed_job()), [], 0.0)) == ["task-started", "task-succeeded"]


def test_outcomes_of_unknown_jobs_tell_nothing() -> None:
    assert listened().settled(outcome(claimed_job()), 0.0) == []


def test_a_duplicate_of_what_is_in_hand_does_not_end_it() -> None:
    log = listened()
    job = claimed_job()
    envelope = envelope_of(job)
    log.claimed(envelope, [job.id], 0.0)
    assert log.claimed(envelope, [], 1.0) == []
    assert log.refused(envelope.id, "another body", 1.0) == []
    assert types(log.settled(outcome(job), 2.0)) == ["task-started", "task-succeeded"]


def test_what_was_quarantined_or_went_back_ends_too() -> None:
    envelope = envelope_of(claimed_job())
    (refused,) = listened().refused(envelope.id, "no such model", 0.0)
    assert (refused.type, refused.fields["exception"]) == ("task-failed", "quarantined: no such model")
    assert types(listened().gone_back(mail_of(envelope), 0.0)) == ["task-retried"]


def test_what_is_in_hand_is_known_though_nobody_listens() -> None:
    log = EnvelopeLog(lambda: False)
    job, other = claimed_job(), claimed_job()
    first, second = envelope_of(job), envelope_of(other)
    mail = mail_of(first, second)
    assert log.received(mail, 0.0) == []
    assert log.in_hand() == [InHand(first, None), InHand(second, None)]
    log.arrived(mail.bunch.key)
    assert log.claimed(first, [job.id], 1.0) == log.claimed(second, [], 1.0) == []
    assert log.begun([job.id], 2.0) == []
    assert (log.in_hand(), log.count_started()) == ([InHand(first, 2.0)], 1)
    assert log.settled(outcome(job), 3.0) == []
    assert (log.in_hand(), log.count_started()) == ([], 0)
    assert log.taken() == {"infer.digits": 1}


def test_an_envelope_on_its_way_is_in_hand_until_it_goes_back() -> None:
    log = EnvelopeLog(lambda: False)
    mail = mail_of(envelope_of(claimed_job()))
    log.received(mail, 0.0)
    assert log.gone_back(mail, 1.0) == []
    assert log.in_hand() == []
