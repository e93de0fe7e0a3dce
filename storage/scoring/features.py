"""What is told of a column: numbers that each row has, and values that can be counted; pure.

number   its value; as a text it is counted, too         text, flag   its characters; its value is counted
numbers  mean, spread and length of each row's list;     bytes, other how long they are, if they say so
         the place of its largest number is counted
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

MOST_COLUMNS = 500
"""Rows that are dicts may have any number of keys: the others are not told of."""

MOST_PLACES = 100
"""Lists up to this length have their largest number's place counted, as the scores of classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Of some rows of a column: its kind, numbers by what they measure (float64), and values as texts.

    `single`: no list has a number that takes more than the 32 bits of a float.
    """

    kind: str
    rows: int
    measures: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    values: pa.Array | None = None
    single: bool = True


def features_of(column: pa.Array | pa.ChunkedArray) -> Features:
    """What a column tells; raises whatever Arrow does for types that it hardly knows."""
    return _features(_present(column), len(column))


def _present(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The values that are there, in one piece."""
    array = (
        pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) and column.chunks else column
    )
    array = pa.array([], column.type) if isinstance(array, pa.ChunkedArray) else array
    array = array.dictionary_decode() if kinds.is_dictionary(array.type) else array
    return array.drop_null()


def _features(array: pa.Array, rows: int) -> Features:
    kind = array.type
    if kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind):
        return _of_lists(array, rows)
    if kinds.is_boolean(kind):
        return Features(kind="flag", rows=rows, values=array.cast(pa.string()))
    if kinds.is_string(kind) or kinds.is_large_string(kind):
        return _measured("text", "characters", pc.utf8_length(array), rows, values=array)
    if kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind):
        return _measured("number", "value", array, rows, values=array.cast(pa.string()))
    return _of_others(array, rows)


def _of_others(array: pa.Array, rows: int) -> Features:
    kind = array.type
    if kinds.is_temporal(kind):
        moments = array.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        return _measured("time", "seconds", pc.divide(moments.cast(pa.float64(), safe=False), 1e6), rows)
    if kinds.is_binary(kind) or kinds.is_large_binary(kind):
        return _measured("bytes", "bytes", pc.binary_length(array), rows)
    return Features(kind="nothing" if kinds.is_null(kind) else "other", rows=rows)


def _measured(
    kind: str, measure: str, numbers: pa.Array, rows: int, *, values: pa.Array | None = None
) -> Features:
    return Features(kind=kind, rows=rows, measures={measure: _floats(numbers)}, values=values)


def _floats(array: pa.Array) -> np.ndarray[Any, Any]:
    return np.asarray(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))


def _of_lists(array: pa.Array, rows: int) -> Features:
    inner = array.type.value_type
    lengths = pc.list_value_length(array).to_numpy(zero_copy_only=False).astype(np.int64)
    measures = {"length": lengths.astype(np.float64)}
    if not (kinds.is_integer(inner) or kinds.is_floating(inner)):
        return Features(kind="list", rows=rows, measures=measures)
    flat = _floats(pc.list_flatten(array))
    single = _is_single(inner, flat)
    if len(lengths) and lengths[0] and (lengths == lengths[0]).all():
        each = flat.reshape(len(lengths), lengths[0])
        measures |= {"mean": each.mean(axis=1), "spread": each.std(axis=1)}
        largest = pa.array(each.argmax(axis=1)).cast(pa.string()) if 1 < lengths[0] <= MOST_PLACES else None
        return Features(kind="numbers", rows=rows, measures=measures, values=largest, single=single)
    some = lengths > 0
    owners = np.repeat(np.arange(len(lengths)), lengths)
    sums, squares = (np.bincount(owners, values, len(lengths))[some] for values in (flat, flat * flat))
    means = sums / lengths[some]
    spreads = np.sqrt(np.maximum(0.0, squares / lengths[some] - means * means))
    measures |= {"mean": means, "spread": spreads}
    return Features(kind="numbers", rows=rows, measures=measures, single=single)


def _is_single(inner: pa.DataType, flat: np.ndarray[Any, Any]) -> bool:
    """Also where Python's floats hold what a network computed with 32 bits."""
    if not kinds.is_float64(inner):
        return bool(kinds.is_floating(inner))
    with np.errstate(over="ignore"):
        return np.array_equal(flat, flat.astype(np.float32), equal_nan=True)
