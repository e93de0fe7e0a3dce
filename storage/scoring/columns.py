"""Arrow columns as a model's rows, and a model's outputs as Arrow columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.types as kinds

SHAPE, DTYPE = attrgetter("shape"), attrgetter("dtype")


def column_values(column: pa.ChunkedArray, *, dtype: str | None = None) -> list[Any]:
    """One Python value per row; lists of numbers as arrays, of `dtype` if it is of the same kind."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    if _is_numbers(array.type):
        return _arrays(array, dtype)
    values: list[Any] = array.to_pylist()
    return values


def _is_numbers(type: pa.DataType) -> bool:
    lists = kinds.is_list(type) or kinds.is_large_list(type) or kinds.is_fixed_size_list(type)
    return bool(lists and (kinds.is_integer(type.value_type) or kinds.is_floating(type.value_type)))


def _arrays(array: Any, dtype: str | None) -> list[Any]:
    flat = array.flatten()
    if flat.null_count or array.null_count:
        stored = array.type.value_type.to_pandas_dtype()
        return [
            row if row is None or None in row else _cast(np.array(row, stored), dtype)
            for row in array.to_pylist()
        ]
    values = _cast(flat.to_numpy(zero_copy_only=False), dtype)
    rows = _rows(array, values)
    # One row that cannot be cast leaves the whole column as it was stored: the other rows still can.
    return rows if dtype in (None, values.dtype.name) else [_cast(row, dtype) for row in rows]


def _rows(array: Any, values: np.ndarray[Any, Any]) -> list[Any]:
    if kinds.is_fixed_size_list(array.type):
        return list(values.reshape(len(array), array.type.list_size))
    lengths = np.diff(array.offsets.to_numpy())
    if len(lengths) and (lengths == lengths[0]).all():
        return list(values.reshape(len(array), lengths[0]))
    return np.split(values, np.cumsum(lengths)[:-1])


def _cast(values: np.ndarray[Any, Any], dtype: str | None) -> np.ndarray[Any, Any]:
    """The numbers as `dtype`; as they are if that would change them: then a signature refuses their row."""
    if dtype is None or np.dtype(dtype).kind != values.dtype.kind:
        return values
    if values.dtype.kind in "iu" and values.size:
        limits = np.iinfo(dtype)
        if values.min() < limits.min or values.max() > limits.max:
            return values
    return values.astype(dtype, copy=False)


def to_column(values: Sequence[Any]) -> pa.Array:
    """A column of any values, None for none: numbers keep their dtype, mixtures become JSON text.

    Raises UnicodeError for text with half a surrogate pair.
    """
    first = next((value for value in values if value is not None), None)
    if isinstance(first, np.ndarray | np.generic):
        stacked = _stacked(values, first)
        if stacked is not None:
            return stacked
    plain = [_plain(value) for value in values]
    try:
        column = pa.array(plain)
        if not _has_empty_struct(column.type):
            return column
    except (pa.ArrowException, OverflowError):
        pass
    return pa.array([None if value is None else _json(value) for value in plain], pa.string())


def _has_empty_struct(type: pa.DataType) -> bool:
    """Whether it holds `{}` only somewhere, which Parquet has no type for."""
    inner = [type.field(index).type for index in range(type.num_fields)]
    return bool(kinds.is_struct(type) and not inner) or any(map(_has_empty_struct, inner))


def _stacked(values: Sequence[Any], first: Any) -> pa.Array | None:
    """Arrays and numpy scalars that are all alike."""
    present = [value for value in values if value is not None]
    if not _alike(present) or first.dtype.kind not in "biuf" or first.ndim > 1:
        return None
    # Of rows it takes a third of what `np.stack` does.
    inner = pa.array(np.concatenate(present) if first.ndim else np.array(present, first.dtype))
    # Lists of any length, so that all parts of a dataset have one type.
    ends = np.arange(len(present) + 1, dtype=np.int32) * (first.shape[0] if first.ndim else 1)
    column = pa.ListArray.from_arrays(pa.array(ends), inner) if first.ndim else inner
    if len(present) == len(values):
        return column
    places = iter(range(len(present)))
    return column.take(pa.array([None if value is None else next(places) for value in values], pa.int64()))


def _alike(values: Sequence[Any]) -> bool:
    """Whether all are arrays of one dtype and shape, or numpy scalars of one type."""
    types = set(map(type, values))
    if len(types) > 1 or not issubclass(types.pop(), np.ndarray | np.generic):
        return False
    return len(set(map(SHAPE, values))) == 1 and len(set(map(DTYPE, values))) == 1


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if type(value) is dict:
        return {str(key): _plain(inner) for key, inner in value.items()}
    if type(value) in (list, tuple):
        return [_plain(inner) for inner in value]
    return value


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # An integer beyond 64 bits, which only the slow way can write.
        return json.dumps(value, default=repr)


def output_columns(outputs: Sequence[Any], taken: Sequence[str]) -> dict[str, pa.Array]:
    """`prediction`, or one column per key if every output is a dict with any; None stands for a failed row.

    A key that an input column has already gets `prediction_` before it.
    """
    present = [output for output in outputs if output is not None]
    dicts = all(type(output) is dict for output in present)
    names = list(dict.fromkeys(name for output in present for name in output)) if dicts else []
    if not names:
        return {_free("prediction", taken): to_column(outputs)}
    return {
        _free(str(name), taken): to_column(
            [None if output is None else output.get(name) for output in outputs]
        )
        for name in names
    }


def _free(name: str, taken: Sequence[str]) -> str:
    return f"prediction_{name}" if name in taken else name
