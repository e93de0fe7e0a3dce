"""What batches cost, learnt from noisy measurements, and the size that follows from it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from shunter.workers.batch import Timing
from shunter.workers.sizing import HANDLING_S, START_ROWS, Sizing

MAX_ROWS = 256
NOISE = 0.1
SEEDS = 5
Curve = Callable[[int], float]
"""Seconds of a batch of so many rows."""


def linear(rows: int) -> float:
    return 0.004 + rows / 8_000


def best_in_the_middle(rows: int) -> float:
    return 0.010 + rows / 200 + (rows / 200) ** 2 / 20


def stepped(tile: int) -> Curve:
    return lambda rows: 0.002 + 0.005 * math.ceil(rows / tile)


def cost(curve: Curve, rows: int) -> float:
    return (curve(rows) + HANDLING_S) / rows


def best_cost(curve: Curve) -> float:
    return min(cost(curve, rows) for rows in range(1, MAX_ROWS + 1))


def run(sizing: Sizing, curve: Curve, batches: int, chance: random.Random) -> float:
    """So many batches of the chosen sizes from a deep queue; returns the mean cost of their rows."""
    seconds, total = 0.0, 0
    for _ in range(batches):
        rows = sizing.rows("rows")
        took = curve(rows) * chance.uniform(1 - NOISE, 1 + NOISE)
        sizing.add("rows", rows=rows, length=0, work=rows, seconds=took)
        seconds += took + HANDLING_S
        total += rows
    return seconds / total


CURVES = {
    "linear": linear,
    "best in the middle": best_in_the_middle,
    "steps of 32": stepped(32),
    "steps of 48": stepped(48),
    "no overhead": lambda rows: rows / 1000,
    "an MLP": lambda rows: 0.000064 + rows / 767_000,
    "an encoder on a CPU": lambda rows: 0.010 + rows / 42 * (1 + rows / 2000),
}


@pytest.mark.parametrize("name", CURVES)
def test_rows_soon_cost_at_most_a_twentieth_more_than_at_the_best_fixed_size(name: str) -> None:
    costs = []
    for seed in range(SEEDS):
        sizing, chance = Sizing(MAX_ROWS), random.Random(seed)
        run(sizing, CURVES[name], 250, chance)
        costs.append(run(sizing, CURVES[name], 500, chance))
    assert sum(costs) / SEEDS <= 1.05 * best_cost(CURVES[name])


CHANGES = [
    ("linear", "best in the middle"),
    ("best in the middle", "linear"),
    ("steps of 32", "best in the middle"),
    ("an encoder on a CPU", "steps of 48"),
    ("an MLP", "an encoder on a CPU"),
]


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_a_cost_that_changes_is_followed(before: str, after: str) -> None:
    costs = []
    for seed in range(SEEDS):
        sizing, chance = Sizing(MAX_ROWS), random.Random(seed)
        run(sizing, CURVES[before], 500, chance)
        run(sizing, CURVES[after], 600, chance)
        costs.append(run(sizing, CURVES[after], 500, chance))
    assert sum(costs) / SEEDS <= 1.05 * best_cost(CURVES[after])


def test_a_cost_that_changes_within_a_duel_leads_to_no_lasting_error() -> None:
    before, after = CURVES["an encoder on a CPU"], CURVES["steps of 48"]
    for batches in range(240, 270):
        sizing, chance = Sizing(MAX_ROWS), random.Random(35)
        run(sizing, before, batches, chance)
        run(sizing, after, 600, chance)
        assert run(sizing, after, 250, chance) <= 1.1 * best_cost(after)


def test_a_fit_tells_overhead_and_throughput_and_how_far_it_is_off() -> None:
    sizing, chance = Sizing(MAX_ROWS), random.Random(1)
    run(sizing, linear, 100, chance)
    document = sizing.document()["rows"]
    assert document["overhead_s"] == pytest.approx(0.004, rel=0.2)
    assert document["throughput"] == pytest.approx(8_000, rel=0.2)
    assert document["error"] < NOISE
    assert sizing.seconds("rows", 128) == pytest.approx(linear(128), rel=0.1)


def test_a_fit_goes_through_the_mean_of_what_a_busy_machine_takes() -> None:
    sizing, chance = Sizing(MAX_ROWS), random.Random(1)
    predicted = []
    for _ in range(2000):
        rows = chance.choice((8, 16, 32, 64))
        slowness = chance.choice((0.5, 0.6, 0.9, 2.0))
        sizing.add("rows", rows=rows, length=0, work=rows, seconds=linear(rows) * slowness)
        predicted.append(sizing.seconds("rows", 32))
    assert sum(predicted[100:]) / len(predicted[100:]) == pytest.approx(linear(32), rel=0.05)


def test_nothing_is_predicted_from_nothing() -> None:
    sizing = Sizing(MAX_ROWS)
    assert (sizing.seconds("rows", 8), sizing.least_seconds(), sizing.document()) == (0.0, 0.0, {})
    assert sizing.rows("rows") == START_ROWS


def test_a_slow_first_batch_is_soon_forgotten() -> None:
    sizing = Sizing(MAX_ROWS)
    sizing.add("rows", rows=8, length=0, work=8, seconds=100 * linear(8))
    run(sizing, linear, 20, random.Random(1))
    assert sizing.seconds("rows", 64) == pytest.approx(linear(64), rel=0.2)


def test_a_length_that_is_new_starts_from_what_its_neighbour_has_learnt() -> None:
    sizing, length = Sizing(MAX_ROWS), 32
    for _ in range(500):
        rows = sizing.rows("length<=32", length)
        seconds = best_in_the_middle(rows)
        sizing.add("length<=32", rows=rows, length=length, work=rows * length, seconds=seconds)
    known = sizing.document()["length<=32"]["rows"]
    assert sizing.rows("length<=64", 64) == pytest.approx(known / 2, rel=0.35)
    assert sizing.seconds("length<=64", 64 * 16) == pytest.approx(best_in_the_middle(32), rel=0.2)
    assert sizing.rows("rows") == START_ROWS


def test_sizes_that_few_rows_allow_do_not_stop_the_search() -> None:
    sizing = Sizing(MAX_ROWS)
    for _ in range(200):
        sizing.add("rows", rows=5, length=0, work=5, seconds=linear(5))
    assert sizing.rows("rows") == START_ROWS
    run(sizing, linear, 300, random.Random(1))
    assert sizing.document()["rows"]["rows"] == MAX_ROWS


def test_a_warm_up_says_where_to_begin() -> None:
    sizing = Sizing(MAX_ROWS)
    timings = [Timing(rows, 0, 0.01 + rows * rows * 1e-5, "a") for rows in (64, 16, 4, 1)]
    sizing.warmed([*timings, Timing(64, 32, 0.1, "b")])
    assert (sizing.rows("a"), sizing.rows("b", 32), sizing.rows("c")) == (16, 64, START_ROWS)


def test_what_a_worker_told_of_its_costs_is_enough_to_go_on_from() -> None:
    learnt = Sizing(MAX_ROWS)
    run(learnt, CURVES["an encoder on a CPU"], 400, random.Random(0))
    told = Sizing.of(MAX_ROWS, learnt.document())
    assert told.rows("rows") == learnt.document()["rows"]["rows"]
    for rows in (1, 16, 128):
        assert told.seconds("rows", rows) == pytest.approx(learnt.seconds("rows", rows), rel=0.01)


def test_told_costs_of_lengths_serve_lengths_nobody_told_of() -> None:
    learnt = Sizing(MAX_ROWS)
    for _ in range(400):
        rows = learnt.rows("length<=64", 64)
        learnt.add("length<=64", rows=rows, length=64, work=rows * 64, seconds=linear(rows))
    told = Sizing.of(MAX_ROWS, learnt.document())
    assert told.seconds("length<=128", 64) == pytest.approx(learnt.seconds("length<=128", 64), rel=0.01)
