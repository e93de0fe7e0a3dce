"""What the death of an engine means for a row, and for its job."""

from __future__ import annotations

import signal

from shunter.storage.job import JobState
from shunter.workers import verdicts
from shunter.workers.isolation import Failure
from tests.engine_process import job_of

GUILTY = Failure("batch_timeout", "forward took too long")


def test_a_row_learns_whether_it_crashed_or_hung() -> None:
    assert verdicts.of_row("it crashed", hangs=False).code == "engine_died"
    hung = verdicts.of_row("forward took long", hangs=True)
    assert hung == Failure("batch_timeout", "forward took long, with this row alone in the model")


def test_an_ending_is_told_in_words() -> None:
    assert verdicts.ending(77) == "the engine ended with exit code 77"
    assert verdicts.ending(-signal.SIGSEGV) == "the engine was ended by SIGSEGV"
    assert verdicts.ending(-999) == "the engine was ended by signal 999"


def test_a_job_goes_on_while_some_rows_are_left() -> None:
    assert verdicts.of_guilty_rows(job_of([1, 2]), {0: GUILTY}) is None
    many = job_of([1] * 100)
    assert verdicts.of_guilty_rows(many, dict.fromkeys(range(verdicts.MAX_GUILTY_ROWS), GUILTY)) is None


def test_a_job_of_which_no_row_is_left_fails_with_all_their_errors() -> None:
    outcome = verdicts.of_guilty_rows(job_of([1, 2]), {1: GUILTY, 0: GUILTY})
    assert outcome is not None
    assert (outcome.state, outcome.rows_failed) == (JobState.FAILED, 2)
    assert [(failure.index, failure.code) for failure in outcome.failures] == [
        (0, "batch_timeout"),
        (1, "batch_timeout"),
    ]
    assert outcome.error is not None
    assert outcome.error["code"] == "engine_died"
    assert outcome.error["message"] == "2 of 2 rows each killed an engine; row 0: forward took too long"


def test_a_job_with_more_guilty_rows_than_are_worth_finding_fails_as_a_whole() -> None:
    guilty = dict.fromkeys(range(verdicts.MAX_GUILTY_ROWS + 1), GUILTY)
    outcome = verdicts.of_guilty_rows(job_of([1] * 100), guilty)
    assert outcome is not None
    assert (outcome.state, outcome.rows_failed, outcome.failures) == (JobState.FAILED, 100, ())


def test_a_job_whose_engines_kept_dying_says_that_nobody_is_to_blame() -> None:
    outcome = verdicts.of_deaths(job_of([1, 2]), 5)
    assert (outcome.rows_failed, (outcome.error or {})["code"]) == (2, "engine_died")
    assert "5 times" in str(outcome.error)
