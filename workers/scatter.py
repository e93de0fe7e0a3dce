"""Exact scatter: what a model returned for a batch becomes one output per row, or an error."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from shunter.storage.errors import OutputMismatch
from shunter.storage.payload_arrays import as_array

_REMEDY = "return exactly one output for each row, in the order of the rows"


def scatter(outputs: Any, count: int) -> list[Any]:
    """One output for each of `count` rows, on the CPU, arrays instead of tensors, dtypes kept.

    Columns, in a dict or a tuple, become one dict or list per row. Raises OutputMismatch.
    """
    if isinstance(outputs, Mapping):
        columns = [_column(column, count, f"output {name!r}") for name, column in outputs.items()]
        names = list(outputs)
        return [dict(zip(names, row, strict=True)) for row in _rows(columns)]
    if isinstance(outputs, tuple):
        columns = [_column(column, count, f"output {index}") for index, column in enumerate(outputs)]
        return [list(row) for row in _rows(columns)]
    return _column(outputs, count, "forward")


def _rows(columns: list[list[Any]]) -> Any:
    if not columns:
        raise OutputMismatch(f"forward returned no outputs at all: {_REMEDY}")
    return zip(*columns, strict=True)


def _column(column: Any, count: int, what: str) -> list[Any]:
    array = as_array(column)
    if array is not None:
        return _split(array, count, what)
    if not isinstance(column, list):
        raise OutputMismatch(
            f"{what} is a {type(column).__name__}, and that cannot be split into {count} rows: "
            "return a list, a tensor or an array, or a dict or tuple of them"
        )
    if len(column) != count:
        message = f"{what} has {len(column)} outputs for {count} rows: {_REMEDY}"
        raise OutputMismatch(message, returned=len(column), expected=count)
    return _off_device(column)


def _split(array: np.ndarray[Any, Any], count: int, what: str) -> list[Any]:
    if array.ndim == 0 or array.shape[0] != count:
        message = f"{what} has the shape {array.shape} for {count} rows: {_REMEDY}"
        raise OutputMismatch(message, returned=array.shape[0] if array.ndim else None, expected=count)
    return list(array)


def _off_device(column: list[Any]) -> list[Any]:
    """Turn a list's tensors into arrays, in one transfer if they are alike."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not any(isinstance(value, torch.Tensor) for value in column):
        return column
    if len({_kind(value) for value in column}) == 1:
        array = as_array(torch.stack(column))
        assert array is not None
        return [array[index, ...] for index in range(len(column))]
    return [value if (array := as_array(value)) is None else array for value in column]


def _kind(value: Any) -> object:
    return (
        getattr(value, "dtype", type(value)),
        getattr(value, "shape", None),
        getattr(value, "device", None),
    )
