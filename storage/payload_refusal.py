"""Why rows cannot be encoded: the first value at fault, its place, and the remedy."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Iterator, Mapping, Sequence, Set
from decimal import Decimal
from pathlib import PurePath
from uuid import UUID

import numpy as np

from shunter.storage.errors import InvalidInput
from shunter.storage.payload_arrays import as_array, plain

MAX_NESTING = 250
"""Lists and dicts inside each other: more is refused, and no JSON library reads much more."""

_INT_RANGE = range(-(2**63), 2**64)

_REMEDIES: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (enum.Enum, "send its .value"),
    (Set, "send sorted(...)"),
    ((datetime.date, datetime.time), "send .isoformat()"),
    (datetime.timedelta, "send .total_seconds()"),
    ((UUID, PurePath), "send str(...)"),
    (Decimal, "send float(...) or str(...)"),
    (complex, "send numpy.complex128(...)"),
    (range, "send list(...)"),
    (Iterator, "send list(...)"),
    (Mapping, "send dict(...)"),
)


def refusal(rows: Sequence[object], error: Exception) -> InvalidInput:
    """The InvalidInput that names the first value of `rows` that cannot be encoded, after `error` said so."""
    for place, depth, value in _walk(rows):
        reason = _reason(value, depth)
        if reason is not None:
            return InvalidInput(f"{place}: {reason}", field=place)
    return InvalidInput(f"the rows cannot be encoded: {error}", field="rows")


def _walk(rows: Sequence[object]) -> Iterator[tuple[str, int, object]]:
    """Every value with its place, depth first and without recursion, in the order of the rows."""
    waiting = [(f"rows[{index}]", 0, row) for index, row in reversed(list(enumerate(rows)))]
    while waiting:
        place, depth, value = waiting.pop()
        yield place, depth, value
        waiting.extend((child, depth + 1, inner) for child, inner in reversed(_children(place, value)))


def _children(place: str, value: object) -> list[tuple[str, object]]:
    if isinstance(value, list | tuple):
        return [(f"{place}[{index}]", inner) for index, inner in enumerate(value)]
    if isinstance(value, dict):
        return [(_member(place, key), inner) for key, inner in value.items()]
    return []


def _member(place: str, key: object) -> str:
    return f"{place}.{key}" if isinstance(key, str) and key.isidentifier() else f"{place}[{key!r:.60}]"


def _reason(value: object, depth: int) -> str | None:
    if isinstance(value, enum.Enum):
        return _unknown_type(value)
    if value is None or isinstance(value, bool | float | bytes | bytearray | memoryview):
        return None
    if isinstance(value, int):
        return None if value in _INT_RANGE else "an int beyond 64 bits does not travel: send a str or float"
    if isinstance(value, str):
        return _surrogate(value)
    if isinstance(value, dict | list | tuple):
        return _container(value, depth)
    return _other(value)


def _surrogate(text: str) -> str | None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"a lone surrogate at character {error.start} is not text: send bytes"
    return None


def _container(value: dict[object, object] | list[object] | tuple[object, ...], depth: int) -> str | None:
    if depth >= MAX_NESTING:
        return f"nested more than {MAX_NESTING} levels deep, or inside itself: send a flatter value"
    if not isinstance(value, dict):
        return None
    for key in value:
        if not isinstance(key, str) or isinstance(key, enum.Enum):
            return f"a dict with the key {key!r:.60} ({type(key).__name__}): keys must be str, send str(key)"
        if _surrogate(key) is not None:
            return f"the key {key!r:.60}: {_surrogate(key)}"
    return None


def _other(value: object) -> str | None:
    try:
        array = as_array(value)
        if array is None and isinstance(value, np.generic):
            array = np.asarray(value)
        if array is None:
            return _unknown_type(value)
        if array.dtype.kind not in "US":
            plain(array)
    except InvalidInput as error:
        return error.message
    return None


def _unknown_type(value: object) -> str:
    name = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    return f"a value of type {name} does not travel: {_remedy(value)}"


def _remedy(value: object) -> str:
    if dataclasses.is_dataclass(value):
        return "send dataclasses.asdict(...)"
    for kinds, remedy in _REMEDIES:
        if isinstance(value, kinds):
            return remedy
    return "send JSON values, bytes, numpy arrays or tensors"
