"""Compares the outputs of the same rows, run alone and together; pure.

Two numbers are equal up to rounding when they differ by at most TOLERANCE of the largest magnitude in their
array: the same float32 sums, taken in another order, differ by about 1e-6. Half-precision outputs differ
more. Everything that is not a floating-point number must be the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from math import inf
from typing import Any

import numpy as np

from shunter.storage.payload_arrays import as_array

TOLERANCE = 1e-4
LOW_PRECISION_TOLERANCE = 2e-2
"""For bfloat16 and float16, which keep 8 and 11 bits."""

NEGLIGIBLE = 1e-7
"""Numbers that differ by no more than this are equal, however small they are."""


class Agreement(Enum):
    """How outputs that should be the same relate."""

    SAME = auto()
    ROUNDED = auto()
    PERMUTED = auto()
    REPEATED = auto()
    CHANGED = auto()


@dataclass(frozen=True, slots=True)
class Comparison:
    """`row` is the first that differs, and `source` the row whose output it got, if it got one's.

    `difference` is the largest one found, relative; infinite between values that are not comparable.
    """

    agreement: Agreement
    difference: float
    row: int = 0
    source: int | None = None

    @property
    def agrees(self) -> bool:
        """Whether every row has its own output, up to rounding."""
        return self.agreement in (Agreement.SAME, Agreement.ROUNDED)


def compare(alone: Sequence[Any], together: Sequence[Any], *, tolerance: float = TOLERANCE) -> Comparison:
    """Hold outputs of rows that ran together against those of the same rows, each run alone.

    Whether outputs were permuted can be told only as far as those of different rows differ.
    """
    differences = [difference(one, other) for one, other in zip(alone, together, strict=True)]
    largest = max(differences, default=0.0)
    wrong = [row for row, found in enumerate(differences) if not found <= tolerance]
    if not wrong:
        return Comparison(Agreement.ROUNDED if largest else Agreement.SAME, largest)
    sources = _sources(alone, together, wrong, tolerance)
    if sources is None:
        return Comparison(Agreement.CHANGED, largest, wrong[0])
    taken = set(range(len(alone))).difference(wrong).union(sources)
    agreement = Agreement.PERMUTED if len(taken) == len(alone) else Agreement.REPEATED
    return Comparison(agreement, largest, wrong[0], sources[0])


def difference(one: Any, other: Any) -> float:
    """How far two outputs lie apart, relative to their magnitude; infinite if they are of different kinds."""
    one, other = _comparable(one), _comparable(other)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return _array_difference(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if one.keys() != other.keys():
            return inf
        return max((difference(value, other[name]) for name, value in one.items()), default=0.0)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return inf
        return max(map(difference, one, other), default=0.0)
    return 0.0 if type(one) is type(other) and bool(one == other) else inf


def all_alike(outputs: Sequence[Any], *, tolerance: float = TOLERANCE) -> bool:
    """Whether all outputs are the same, so that nobody could tell whose is whose."""
    return all(difference(outputs[0], output) <= tolerance for output in outputs[1:])


def _sources(
    alone: Sequence[Any], together: Sequence[Any], wrong: Sequence[int], tolerance: float
) -> list[int] | None:
    """The row whose output each wrong row got, once each as far as possible; None if one got nobody's."""
    free, sources = set(wrong), []
    for row in wrong:
        fitting = [j for j, output in enumerate(alone) if difference(output, together[row]) <= tolerance]
        if not fitting:
            return None
        source = next((j for j in fitting if j in free), fitting[0])
        free.discard(source)
        sources.append(source)
    return sources


def _comparable(value: Any) -> Any:
    if isinstance(value, float | np.generic):
        return np.asarray(value)
    array = as_array(value)
    return value if array is None else array


def _array_difference(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    if one.shape != other.shape or one.dtype != other.dtype:
        return inf
    if one.dtype.kind not in "fc":
        return 0.0 if np.array_equal(one, other) else inf
    wide = "c16" if one.dtype.kind == "c" else "f8"
    one, other = one.astype(wide), other.astype(wide)
    finite = np.isfinite(one)
    if (
        not np.array_equal(one[~finite], other[~finite], equal_nan=True)
        or not np.isfinite(other[finite]).all()
    ):
        return inf
    gaps = np.abs(one[finite] - other[finite])
    gap = float(gaps.max(initial=0.0))
    if gap <= NEGLIGIBLE:
        return gap
    return gap / float(max(np.abs(one[finite]).max(), np.abs(other[finite]).max()))
