"""What an engine makes of a job's results is bounded, however many rows fail and whatever they say."""

from __future__ import annotations

from uuid import uuid4

from shunter.storage.errors import MAX_MESSAGE_CHARS
from shunter.storage.job import JobState
from shunter.storage.testing import InMemoryJobRepository, InMemoryObjectStore
from shunter.workers import assembly
from shunter.workers.assembly import JobRun, assemble
from shunter.workers.isolation import Failure
from shunter.workers.messages import Run
from shunter.workers.settler import MAX_BYTES, Settlement, parts
from tests.stored_jobs import claim, insert


def run_of(rows: int) -> JobRun:
    repository = InMemoryJobRepository()
    (job,) = claim(repository, insert(repository, rows=rows), worker=uuid4())
    return JobRun(Run(job=job), now=0.0)


def test_few_messages_stay_as_they_are() -> None:
    run = run_of(2)
    run.results = [1, Failure("x", "m" * MAX_MESSAGE_CHARS)]
    (failure,) = assemble(run, InMemoryObjectStore(), now=0.0).failures
    assert failure.message == "m" * MAX_MESSAGE_CHARS


def test_very_many_messages_are_small_together_and_each_row_keeps_one() -> None:
    run = run_of(10_000)
    run.results = [Failure("x", "m" * MAX_MESSAGE_CHARS)] * 10_000
    outcome = assemble(run, InMemoryObjectStore(), now=0.0)
    assert len(outcome.failures) == 10_000
    assert sum(len(failure.message) for failure in outcome.failures) <= assembly.MAX_MESSAGES_CHARS
    assert min(len(failure.message) for failure in outcome.failures) >= assembly.LEAST_MESSAGE_CHARS


def test_outcomes_with_many_messages_are_not_written_all_at_once() -> None:
    run = run_of(1000)
    run.results = [Failure("x", "m" * MAX_MESSAGE_CHARS)] * 1000
    settlement = Settlement(assemble(run, InMemoryObjectStore(), now=0.0), uuid4())
    size = sum(len(failure.message) for failure in settlement.outcome.failures)
    assert max(len(part) for part in parts([settlement] * 100)) <= MAX_BYTES // size + 1


def test_outputs_that_nobody_could_read_fail_their_job() -> None:
    run = run_of(1)
    run.results = ["x" * 200]
    outcome = assemble(run, InMemoryObjectStore(), now=0.0, most_bytes=100)
    assert outcome.state is JobState.FAILED
    assert (outcome.error or {})["code"] == "too_large"
