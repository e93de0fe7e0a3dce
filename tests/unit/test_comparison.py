"""Outputs of rows alone against those of the same rows together."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np
import pytest

from shunter.workers.checking.comparison import Agreement, all_alike, compare, difference

ALONE = [np.array([0.5, 1.0], "f4"), np.array([2.0, 3.0], "f4"), np.array([4.0, 5.0], "f4")]


def test_the_same_outputs_are_the_same() -> None:
    found = compare(ALONE, [array.copy() for array in ALONE])
    assert (found.agreement, found.difference) == (Agreement.SAME, 0)


def test_sums_in_another_order_are_rounding() -> None:
    found = compare(ALONE, [array * np.float32(1 + 1e-5) for array in ALONE])
    assert (found.agreement, found.agrees) == (Agreement.ROUNDED, True)


def test_swapped_outputs_are_a_permutation_that_names_whose_they_are() -> None:
    found = compare(ALONE, [ALONE[0], ALONE[2], ALONE[1]])
    assert (found.agreement, found.row, found.source) == (Agreement.PERMUTED, 1, 2)


def test_a_permutation_among_equal_outputs_is_still_one() -> None:
    found = compare(["a", "a", "b", "c"], ["b", "a", "a", "c"])
    assert (found.agreement, found.row, found.source) == (Agreement.PERMUTED, 0, 2)


def test_one_output_for_two_rows_is_a_repetition() -> None:
    found = compare(ALONE, [ALONE[0], ALONE[0], ALONE[2]])
    assert (found.agreement, found.row, found.source) == (Agreement.REPEATED, 1, 0)


def test_an_output_that_nobody_had_alone_is_a_change() -> None:
    found = compare(ALONE, [ALONE[0], ALONE[1] * 2, ALONE[2]])
    assert (found.agreement, found.row, found.difference) == (Agreement.CHANGED, 1, 0.5)


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        (1.0, 1.0, 0),
        (nan, nan, 0),
        (1.0, nan, inf),
        (inf, -inf, inf),
        (1e-9, 2e-9, 1e-9),
        (4.0, 3.0, 0.25),
        (1, 1.0, inf),
        (True, 1, inf),
        ("a", "b", inf),
        (None, None, 0),
        ({"a": [1, 2.0]}, {"a": [1, 1.0]}, 0.5),
        ({"a": 1}, {"b": 1}, inf),
        ([1], [1, 1], inf),
        (np.zeros(2, "f4"), np.zeros(3, "f4"), inf),
        (np.zeros(2, "f4"), np.zeros(2, "f8"), inf),
        (np.array([1, 2]), np.array([1, 3]), inf),
        (np.zeros(0), np.zeros(0), 0),
    ],
)
def test_the_difference_of_two_outputs(one: Any, other: Any, apart: float) -> None:
    assert difference(one, other) == pytest.approx(apart)


def test_outputs_are_alike_only_if_none_stands_out() -> None:
    assert all_alike([1.0, 1.0, 1.0])
    assert not all_alike(ALONE)
