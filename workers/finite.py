"""Refuse outputs that are not finite, for models that say so: NaN is an error there, not a result."""

from __future__ import annotations

from typing import Any

import numpy as np

from shunter.workers.isolation import Failure, Verdict

NOT_FINITE = Failure(
    "not_finite", "the model returned NaN or infinity for this row, and model.toml says finite = true"
)


def refuse_non_finite(results: list[Any]) -> list[Any]:
    """The same results, with a failure in place of each that holds a NaN or an infinity."""
    rows = [index for index, result in enumerate(results) if not isinstance(result, Verdict)]
    finite = _finite([results[index] for index in rows])
    if finite.all():
        return results
    bad = {index for index, good in zip(rows, finite, strict=True) if not good}
    return [NOT_FINITE if index in bad else result for index, result in enumerate(results)]


def _finite(values: list[Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which of the values are finite throughout: whole columns at once where the rows are alike."""
    first = values[0] if values else None
    if isinstance(first, np.ndarray) and all(_alike(value, first) for value in values):
        return _whole_rows(np.stack(values))
    if isinstance(first, float) and all(type(value) is float for value in values):
        return _whole_rows(np.array(values))
    if isinstance(first, dict) and all(isinstance(v, dict) and v.keys() == first.keys() for v in values):
        columns = [_finite([value[name] for value in values]) for name in first]
        together: np.ndarray[Any, np.dtype[np.bool_]] = np.logical_and.reduce([_all(values), *columns])
        return together
    return np.fromiter(map(_is_finite, values), dtype=bool, count=len(values))


def _alike(value: Any, first: np.ndarray[Any, Any]) -> bool:
    return isinstance(value, np.ndarray) and value.shape == first.shape and value.dtype == first.dtype


def _whole_rows(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if rows.dtype.kind not in "fc":
        return _all(rows)
    finite: np.ndarray[Any, np.dtype[np.bool_]] = np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
    return finite


def _all(values: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.ones(len(values), dtype=bool)


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    if isinstance(value, np.ndarray | np.generic | float):
        array = np.asarray(value)
        return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())
    return True
