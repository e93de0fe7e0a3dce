"""The ledger's invariants catch each kind of broken promise, and accept what is right."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from shunter.storage.ids import new_id
from shunter.storage.job import JobState
from shunter.storage.outcome import RowFailure, StoredResult
from shunter.storage.testing import InMemoryJobRepository
from tests.faults.ledger import INVARIANTS, Entry, Fate, expected, unlucky
from tests.stored_jobs import new_job

JOB = new_id()
NUMBERS = (99, 100, 101)
ENTRY = Entry("key", NUMBERS, JOB)


def sound() -> Fate:
    """The fate that this entry was promised: its second row is one that the model refuses."""
    jobs = InMemoryJobRepository()
    jobs.insert([new_job(id=JOB, rows=3)])
    job = replace(jobs.get(JOB), state=JobState.SUCCEEDED, rows_succeeded=2, rows_failed=1)
    result = StoredResult(JobState.SUCCEEDED, 3, None, (RowFailure(1, "unlucky", ""),), None)
    outputs = [None if unlucky(number) else expected(number) for number in NUMBERS]
    return Fate(job, result, outputs, endings=1, revivals=0, keyed=JOB)


def broken(entry: Entry, fate: Fate | None) -> set[str]:
    return {name for name, invariant in INVARIANTS.items() if invariant(entry, fate) is not None}


def test_a_promise_kept_breaks_nothing() -> None:
    assert broken(ENTRY, sound()) == set()


def test_a_job_that_is_lost_is_told() -> None:
    assert broken(ENTRY, None) == {"I3"}


def test_a_job_that_never_ends_is_told() -> None:
    fate = sound()
    assert "I1" in broken(ENTRY, replace(fate, job=replace(fate.job, state=JobState.RUNNING)))


@pytest.mark.parametrize("changes", [{"endings": 2}, {"endings": 0}, {"revivals": 1}])
def test_a_job_that_ends_more_or_less_than_once_is_told(changes: dict[str, int]) -> None:
    assert broken(ENTRY, replace(sound(), **changes)) == {"I2"}  # type: ignore[arg-type]


def test_a_key_that_names_another_job_is_told() -> None:
    assert broken(ENTRY, replace(sound(), keyed=uuid4())) == {"I3"}


def test_counters_that_lie_are_told() -> None:
    fate = sound()
    assert broken(ENTRY, replace(fate, job=replace(fate.job, rows_succeeded=3))) == {"I4"}


def test_a_cancelled_job_that_succeeds_is_told() -> None:
    assert broken(replace(ENTRY, cancelled=True), sound()) == {"I6"}


def test_outputs_of_other_rows_are_told() -> None:
    fate = sound()
    assert broken(ENTRY, replace(fate, outputs=[202, None, 198])) == {"I7"}


def test_a_failure_that_is_hidden_is_told() -> None:
    fate = sound()
    hidden = replace(fate, result=replace(fate.result, failures=()))
    assert broken(ENTRY, hidden) == {"I4", "I7"}
