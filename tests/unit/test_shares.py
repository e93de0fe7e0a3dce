"""Priority classes under load: who waits for whom, on simulated traces."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, pairwise

import pytest

from shunter.storage.job import Priority
from shunter.storage.model_config import Batching
from shunter.workers.batch import Batch
from shunter.workers.shares import AGED_S, AGED_SHARE, SHARE, Ledger, share
from shunter.workers.simulation import Arrival, SimulatedJob
from shunter.workers.simulator import simulate
from shunter.workers.sizing import Sizing

INTERACTIVE, STANDARD, BULK = Priority
LIMITS = Batching(max_rows=32)
BATCH_S = 0.1
"""However few rows it has: bulk can only ride along."""

NOTHING = [0.0, 0.0, 0.0]
FULL_RATE = LIMITS.max_rows / BATCH_S


def tenth(batch: Batch[SimulatedJob]) -> float:
    return BATCH_S


def largest() -> Sizing:
    """A sizing that has found out already that full batches are best."""
    sizing = Sizing(LIMITS.max_rows)
    sizing.add("rows", rows=8, length=0, work=8, seconds=BATCH_S)
    while not sizing.document()["rows"]["settled"]:
        sizing.add("rows", rows=sizing.rows("rows"), length=0, work=sizing.rows("rows"), seconds=BATCH_S)
    return sizing


def jain(values: Sequence[float]) -> float:
    """Jain's index of fairness: 1 when all are equal, 1/n when one has everything.

    R. Jain, D. Chiu, W. Hawe: A Quantitative Measure of Fairness, DEC-TR-301, 1984.
    """
    return sum(values) ** 2 / (len(values) * sum(value * value for value in values))


def poisson(
    rate: float, priority: Priority, seconds: float, *, rows: int = 1, seed: int = 1
) -> Iterator[Arrival]:
    chance, at_s = random.Random(seed), 0.0
    while (at_s := at_s + chance.expovariate(rate / rows)) < seconds:
        yield Arrival(at_s=at_s, rows=rows, priority=priority)


def merged(*traces: Iterator[Arrival]) -> list[Arrival]:
    return sorted((arrival for trace in traces for arrival in trace), key=lambda arrival: arrival.at_s)


def backlog(priority: Priority, rows: int) -> Iterator[Arrival]:
    return (Arrival(at_s=0.0, rows=8, priority=priority) for _ in range(rows // 8))


def test_urgent_jobs_wait_for_the_batch_that_runs_and_for_no_bulk_behind_it() -> None:
    seconds = 120.0
    bulk = list(backlog(BULK, int(FULL_RATE * seconds)))
    urgent = poisson(0.7 * FULL_RATE, INTERACTIVE, seconds)
    alone = simulate(bulk, LIMITS, tenth, held_rows=128, sizing=largest())
    both = simulate(merged(iter(bulk), urgent), LIMITS, tenth, held_rows=128, sizing=largest())
    assert both.queued_s(99, INTERACTIVE) <= 1.1 * BATCH_S
    assert both.rows_per_s >= 0.97 * alone.rows_per_s


def test_a_burst_of_twelve_urgent_batches_waits_for_no_bulk_that_was_served_until_then() -> None:
    batches = 12
    bulk = backlog(BULK, 100 * LIMITS.max_rows)
    at_s = 40.5 * BATCH_S
    burst = [Arrival(at_s=at_s, rows=8, priority=INTERACTIVE)] * (batches * LIMITS.max_rows // 8)
    result = simulate(merged(bulk, iter(burst)), LIMITS, tenth, held_rows=128, sizing=largest())
    assert result.queued_s(100, INTERACTIVE) == pytest.approx((batches - 0.5) * BATCH_S)


def test_bulk_that_was_served_until_then_waits_for_at_most_twenty_batches_of_urgent_rows() -> None:
    bulk = backlog(BULK, 100 * LIMITS.max_rows)
    at_s = 40.5 * BATCH_S
    flood = backlog(INTERACTIVE, 100 * LIMITS.max_rows)
    late = (replace(arrival, at_s=at_s) for arrival in flood)
    result = simulate(merged(bulk, late), LIMITS, tenth, held_rows=128, sizing=largest())
    begun = sorted(job.begun_s or 0.0 for job in result.jobs if job.priority is BULK)
    pauses = [later - sooner for sooner, later in pairwise(begun)]
    assert max(pauses) <= 20 * BATCH_S


def test_overloaded_classes_get_their_shares() -> None:
    seconds = 60.0
    result = simulate(
        merged(*(backlog(priority, int(4 * FULL_RATE * seconds)) for priority in Priority)),
        LIMITS,
        tenth,
        held_rows=256,
        sizing=largest(),
    )
    # While all three wait, that is until the first class has run dry.
    until = max(job.finished_s or 0.0 for job in result.jobs if job.priority is INTERACTIVE)
    served = [
        sum(
            job.finished_s is not None and job.finished_s <= until and job.priority is priority
            for job in result.jobs
        )
        for priority in Priority
    ]
    entitled = [1 - 2 * SHARE, SHARE, SHARE]
    assert jain([rows / part for rows, part in zip(served, entitled, strict=True)]) >= 0.9


@pytest.mark.parametrize("lower", [STANDARD, BULK])
def test_a_class_that_waits_is_served_one_batch_in_eight_whatever_the_load_above(lower: Priority) -> None:
    urgent = islice(backlog(INTERACTIVE, 40 * 32), 1000)
    trace = merged(urgent, iter([Arrival(at_s=0.0, rows=1, priority=lower)]))
    result = simulate(trace, LIMITS, tenth, sizing=largest())
    assert result.queued_s(100, lower) <= BATCH_S / SHARE


def test_an_odd_shape_of_a_lower_class_is_not_starved_by_full_lanes() -> None:
    ledger = Ledger()
    batches = 0
    while not ledger.due(BULK):
        ledger.settle({INTERACTIVE: 0.0, BULK: 0.0}, [1.0, 0.0, 0.0])
        batches += 1
    assert batches == 1 / SHARE


def test_a_share_grows_with_age_and_leaves_the_most_urgent_half() -> None:
    assert share(INTERACTIVE, waited_s=1e9) == 0
    assert share(BULK) == share(BULK, waited_s=AGED_S - 1) == SHARE
    assert 2 * share(BULK, waited_s=AGED_S) == 2 * AGED_SHARE <= 0.5


def test_a_class_that_no_longer_waits_is_owed_nothing() -> None:
    ledger = Ledger()
    ledger.settle({BULK: 0.0}, NOTHING)
    assert ledger.seats(BULK, 64) == 8
    ledger.settle({}, NOTHING)
    assert ledger.seats(BULK, 64) == 0


def test_nobody_is_owed_more_than_a_batch() -> None:
    ledger = Ledger()
    for _ in range(100):
        ledger.settle({STANDARD: AGED_S}, NOTHING)
    ledger.settle({STANDARD: 0.0}, [0.0, 1.0, 0.0])
    assert ledger.seats(STANDARD, 64) == 8
