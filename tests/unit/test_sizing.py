"""What batches cost, learnt from noisy measurements, and the size that follows from it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from shunter.workers.sizing import HANDLING_S, Sizing

MAX_ROWS = 256
NOISE = 0.1
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


def chosen(sizing: Sizing) -> int:
    return int(sizing.document()["rows"]["rows"])


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
@pytest.mark.parametrize("seed", range(5))
def test_rows_soon_cost_at_most_a_twentieth_more_than_at_the_best_fixed_size(name: str, seed: int) -> None:
    sizing, chance = Sizing(MAX_ROWS), random.Random(seed)
    run(sizing, CURVES[name], 250, chance)
    assert run(sizing, CURVES[name], 500, chance) <= 1.05 * best_cost(CURVES[name])


CHANGES = [
    ("linear", "best in the middle"),
    ("best in the middle", "linear"),
    ("steps of 32", "best in the middle"),
    ("an encoder on a CPU", "steps of 48"),
    ("an MLP", "an encoder on a CPU"),
]


@pytest.mark.parametrize(("before", "after"), CHANGES)
@pytest.mark.parametrize("seed", range(5))
def test_a_cost_that_changes_is_followed(before: str, after: str, seed: int) -> None:
    sizing, chance = Sizing(MAX_ROWS), random.Random(seed)
    run(sizing, CURVES[before], 500, chance)
    run(sizing, CURVES[after], 600, chance)
    assert run(sizing, CURVES[after], 500, chance) <= 1.05 * best_cost(CURVES[after])
