"""Outputs that are not finite are errors of their own rows, for models that say so."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from shunter.workers.finite import NOT_FINITE, refuse_non_finite
from shunter.workers.isolation import Failure

GOOD = np.array([1.0, 2.0], np.float32)
BAD = np.array([1.0, np.inf], np.float32)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (GOOD, BAD),
        (np.float16(1), np.float16("nan")),
        (np.array([1 + 1j]), np.array([complex(1, math.nan)])),
        (1.5, math.nan),
        (2, -math.inf),
        ({"x": GOOD, "label": "a"}, {"x": BAD, "label": "a"}),
        ({"x": 1.0}, {"y": math.nan}),
        ([1.0, [GOOD]], [1.0, [BAD]]),
        ("text", [math.inf]),
        (None, {"deep": {"er": [math.nan]}}),
    ],
)
def test_only_the_rows_that_are_not_finite_are_refused(good: Any, bad: Any) -> None:
    results = [good, bad, good]
    refused = refuse_non_finite(results)
    assert all(result is wanted for result, wanted in zip(refused, (good, NOT_FINITE, good), strict=True))
    finite = [good, good]
    assert refuse_non_finite(finite) is finite


def test_integers_words_and_earlier_verdicts_pass() -> None:
    failure = Failure("value_error", "bad")
    passing: list[list[Any]] = [[np.array([1, 2])] * 2, ["nan", "inf"], [failure], [], [{}, {}], [True, 3]]
    for results in passing:
        assert refuse_non_finite(results) is results
    assert refuse_non_finite([failure, math.nan]) == [failure, NOT_FINITE]
