"""Whether a job may run again, and when."""

from __future__ import annotations

from uuid import uuid4

from shunter.storage.job import JobState, Move
from shunter.storage.outcome import Outcome
from shunter.workers import retry

TRANSIENT = Outcome(
    id=uuid4(),
    epoch=1,
    move=Move.RETRY,
    retry_in_s=3.0,
    counts_attempt=True,
    error={"code": "transient", "message": "the index is rebuilding"},
)


def test_waits_double_up_to_a_ceiling() -> None:
    assert [retry.backoff_s(n) for n in (1, 2, 3, 4)] == [1.0, 2.0, 4.0, 8.0]
    assert retry.backoff_s(60) == retry.CEILING_S


def test_chance_only_lengthens_a_wait() -> None:
    assert retry.backoff_s(1, chance=0.999) <= 1 + retry.JITTER
    assert retry.backoff_s(1, chance=0.5) > retry.backoff_s(1)


def test_a_retry_waits_at_least_as_long_as_the_model_asked() -> None:
    limited = retry.limit(TRANSIENT, attempts=0, max_attempts=3, rows=2, chance=0.0)
    assert (limited.move, limited.retry_in_s, limited.counts_attempt) == (Move.RETRY, 3.0, True)


def test_the_last_attempt_fails_with_the_last_error() -> None:
    limited = retry.limit(TRANSIENT, attempts=2, max_attempts=3, rows=2, chance=0.0)
    assert (limited.move, limited.state, limited.rows_failed) == (Move.FAIL, JobState.FAILED, 2)
    assert limited.error == {
        "code": "transient",
        "message": "gave up after 3 attempts; the last one: the index is rebuilding",
    }


def test_an_outage_of_a_service_never_ends_a_job() -> None:
    outage = TRANSIENT._replace(counts_attempt=False)
    limited = retry.limit(outage, attempts=99, max_attempts=3, rows=2, chance=0.5)
    assert (limited.move, limited.counts_attempt) == (Move.RETRY, False)
    assert outage.retry_in_s < limited.retry_in_s <= outage.retry_in_s * (1 + retry.JITTER)


def test_a_job_that_may_run_once_fails_at_once() -> None:
    limited = retry.limit(TRANSIENT, attempts=0, max_attempts=1, rows=2, chance=0.0)
    assert (limited.move, limited.state, limited.retry_in_s) == (Move.FAIL, JobState.FAILED, 0.0)


def test_other_outcomes_pass_unchanged() -> None:
    done = TRANSIENT._replace(move=Move.SUCCEED)
    assert retry.limit(done, attempts=9, max_attempts=1, rows=1, chance=0.0) is done
