"""A worker without a model: its figures against arithmetic."""

from __future__ import annotations

import pytest

from shunter.storage.job import Priority
from shunter.storage.model_config import Batching
from shunter.workers.batch import Batch
from shunter.workers.simulation import Arrival, SimulatedJob, Simulation, percentile
from shunter.workers.simulator import fitted, simulate
from shunter.workers.sizing import Sizing

EIGHT = Batching(max_rows=8)
NOTHING_TO_SIZE = Batching(max_rows=1)


def second_each(batch: Batch[SimulatedJob]) -> float:
    return float(len(batch.rows))


def one_second(batch: Batch[SimulatedJob]) -> float:
    return 1.0


def test_a_lone_job_takes_what_its_batch_takes() -> None:
    result = simulate([Arrival(at_s=5.0, rows=3)], EIGHT, second_each)
    assert (result.latency_s(50), result.queued_s(50), result.rows_per_s, result.utilisation) == (3, 0, 1, 1)
    assert (dict(result.sizes), dict(result.reasons)) == ({3: 1}, {"idle": 1})


def test_the_way_to_the_batcher_and_back_is_time_in_which_the_model_runs_others() -> None:
    trace = [Arrival(at_s=0.0, rows=1), Arrival(at_s=0.0, rows=1)]
    result = simulate(trace, NOTHING_TO_SIZE, one_second, way_s=0.5)
    assert [job.queued_s for job in result.jobs] == [0.25, 1.25]
    assert [job.latency_s for job in result.jobs] == [1.5, 2.5]
    assert (result.busy_s, result.ended_s) == (2.0, 2.5)


def test_jobs_behind_one_another_wait_for_those_before() -> None:
    result = simulate([Arrival(at_s=0.0, rows=1)] * 4, NOTHING_TO_SIZE, one_second)
    assert [job.latency_s for job in result.jobs] == [1, 2, 3, 4]
    assert [job.queued_s for job in result.jobs] == [0, 1, 2, 3]
    assert (result.latency_s(50), result.latency_s(99), result.rows_per_s) == (2, 4, 1)


def test_what_comes_while_the_model_is_busy_shares_the_next_batch() -> None:
    trace = [Arrival(at_s=0.0, rows=1), *(Arrival(at_s=0.25 * n, rows=1) for n in (1, 2, 3))]
    result = simulate(trace, EIGHT, one_second)
    assert (dict(result.sizes), result.batches, result.ended_s) == ({1: 1, 3: 1}, 2, 2.0)
    assert [job.latency_s for job in result.jobs] == [1.0, 1.75, 1.5, 1.25]


def test_a_model_that_waits_between_jobs_is_used_in_part() -> None:
    result = simulate([Arrival(at_s=0.0, rows=2), Arrival(at_s=6.0, rows=2)], EIGHT, second_each)
    assert (result.busy_s, result.ended_s, result.utilisation) == (4.0, 8.0, 0.5)


def test_a_job_that_misses_its_deadline_in_line_costs_nothing() -> None:
    trace = [Arrival(at_s=0.0, rows=1), Arrival(at_s=0.1, rows=1), Arrival(at_s=0.1, rows=1, deadline_s=0.5)]
    result = simulate(trace, NOTHING_TO_SIZE, lambda batch: 4.0)
    assert (result.rows, result.expired, result.jobs[2].latency_s) == (2, 1, float("inf"))


def test_padding_is_what_was_paid_for_and_not_asked_for() -> None:
    result = simulate([Arrival(at_s=0.0, rows=4, lengths=[9, 9, 9, 10])], EIGHT, one_second)
    assert (result.tokens, result.padded_tokens) == (37, 40)
    assert result.padding == pytest.approx(3 / 40)


def test_urgent_jobs_pass_the_bulk_that_fills_what_the_worker_may_hold() -> None:
    bulk = [Arrival(at_s=0.0, rows=8, priority=Priority.BULK)] * 50
    urgent = Arrival(at_s=2.5, rows=1, priority=Priority.INTERACTIVE)
    result = simulate([*bulk, urgent], EIGHT, one_second, held_rows=32)
    assert result.queued_s(100, Priority.INTERACTIVE) <= 2.0
    assert result.rows == 401


def test_a_simulation_from_a_fit_takes_as_long_as_what_was_fitted() -> None:
    sizing = Sizing(EIGHT.max_rows)
    for rows in (1, 2, 4, 8) * 5:
        sizing.add("rows", rows=rows, length=0, work=rows, seconds=0.5 + rows / 4)
    result = simulate([Arrival(at_s=0.0, rows=6)], EIGHT, fitted(sizing))
    assert result.ended_s == pytest.approx(2.0)


def test_nothing_comes_of_an_empty_trace() -> None:
    result = simulate([], EIGHT, one_second)
    assert result == Simulation()
    assert (result.rows_per_s, result.utilisation, result.padding, result.latency_s(99)) == (0, 0, 0, 0)


def test_percentiles_are_values_that_occurred() -> None:
    assert [percentile([3.0, 1.0, 2.0, 4.0], percent) for percent in (0, 25, 50, 99, 100)] == [1, 1, 2, 4, 4]
