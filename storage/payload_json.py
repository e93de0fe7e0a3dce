"""Rows and outputs as JSON values: bytes travel as `{"$bytes": base64}`, arrays as nested lists."""

from __future__ import annotations

import base64
import math
from operator import countOf
from typing import Any

import numpy as np

from shunter.storage.errors import InvalidInput
from shunter.storage.payload_refusal import MAX_NESTING

BYTES_KEY = "$bytes"

_SCALARS = frozenset((type(None), bool, int, float, str))
_FINITE = frozenset((type(None), bool, int, str, bytes))


def to_json(value: object) -> object:
    """A decoded value as a JSON value; complex numbers become [real, imaginary].

    Lists without anything to change are returned as they are, not copied.
    Raises ValueError if `value` holds a NaN or an infinity, which JSON cannot say.
    """
    if has_nonfinite(value):
        raise ValueError("a NaN or an infinity has no JSON form")
    return _to_json(value)


def _to_json(value: object) -> object:
    if type(value) is list:
        return value if _flat(value) else [_to_json(inner) for inner in value]
    if type(value) is dict:
        return {key: _to_json(inner) for key, inner in value.items()}
    if isinstance(value, bytes):
        return {BYTES_KEY: base64.b64encode(value).decode("ascii")}
    if isinstance(value, np.ndarray | np.generic):
        return _numbers(np.asarray(value))
    return value


def _numbers(array: np.ndarray[Any, np.dtype[Any]]) -> object:
    if array.dtype.kind == "c":
        return np.stack((array.real, array.imag), axis=-1).tolist()
    return array.tolist()


def has_nonfinite(value: object) -> bool:
    """Whether a decoded value holds a NaN or an infinity anywhere."""
    if type(value) is float:
        return not math.isfinite(value)
    if type(value) is list:
        return _any_nonfinite(value)
    if type(value) is dict:
        return _any_nonfinite(list(value.values()))
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "fc":
        return not bool(np.isfinite(value).all())
    return False


def _any_nonfinite(values: list[Any]) -> bool:
    kinds = set(map(type, values))
    if kinds == {float}:
        return not all(map(math.isfinite, values))
    return not kinds <= _FINITE and any(map(has_nonfinite, values))


def from_json(value: object, *, where: str) -> object:
    """A JSON value as a row: `{"$bytes": base64}` becomes bytes, wherever it stands.

    Raises InvalidInput naming the place, from `where` on, for bad base64 and for too deep a nesting.
    """
    return _from_json(value, where, 0)


def _from_json(value: object, where: str, depth: int) -> object:
    if not isinstance(value, list | dict):
        return value
    if depth > MAX_NESTING:
        raise InvalidInput(f"{where}: nested more than {MAX_NESTING} levels deep: flatten it", field=where)
    if isinstance(value, list):
        if _flat(value):
            return value
        return [_from_json(inner, f"{where}[{index}]", depth + 1) for index, inner in enumerate(value)]
    if len(value) == 1 and BYTES_KEY in value:
        return _read_bytes(value[BYTES_KEY], where)
    return {key: _from_json(inner, f"{where}.{key}", depth + 1) for key, inner in value.items()}


def _flat(values: list[object]) -> bool:
    """Whether a list holds no lists and no dicts."""
    kind = type(values[0]) if values else None
    # Counting one type takes half the time of looking each up.
    return (kind in _SCALARS and countOf(map(type, values), kind) == len(values)) or _SCALARS.issuperset(
        map(type, values)
    )


def _read_bytes(text: object, where: str) -> bytes:
    if isinstance(text, str):
        try:
            return base64.b64decode(text, validate=True)
        except ValueError as error:
            reason = str(error)
    else:
        reason = f"it holds {type(text).__name__}"
    raise InvalidInput(
        f'{where}: {{"{BYTES_KEY}": ...}} must hold standard base64 text, padding included: {reason}',
        field=where,
    )
