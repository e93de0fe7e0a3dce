"""What a model takes and returns: names, dtypes and shapes, and the check of rows against them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from operator import attrgetter, countOf
from typing import Any

import numpy as np

from shunter.storage.errors import InvalidInput
from shunter.storage.payload_arrays import DTYPES, Array, as_array
from shunter.storage.references import is_reference

ANY = -1
"""A dimension of any size."""

DTYPE, SHAPE = attrgetter("dtype"), attrgetter("shape")

NUMERIC = tuple(dtype.name for dtype in DTYPES)
TEXTUAL: Mapping[str, type] = {"string": str, "bytes": bytes}
FREE = "any"
"""The dtype of a value that is not checked."""

DTYPE_NAMES = (*NUMERIC, *TEXTUAL, FREE)

# Exact types: a bool is an int to isinstance, and a numpy scalar may be a float.
_LEAVES: Mapping[str, frozenset[type]] = {
    "b": frozenset({bool}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "f": frozenset({float, int}),
    "c": frozenset({complex, float, int}),
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output: a dtype of DTYPE_NAMES, and a shape without the batch, ANY for any size."""

    dtype: str
    shape: tuple[int, ...] = ()

    @property
    def leaves(self) -> frozenset[type]:
        """The Python types that a list of this dtype may hold."""
        return _leaves(self.dtype)

    def describe(self) -> str:
        """The spec in words, for messages."""
        shape = ", ".join("any" if size == ANY else str(size) for size in self.shape)
        return f"{self.dtype} of shape ({shape})" if self.shape else f"a single {self.dtype}"

    def example(self, size: int = 1) -> Any:
        """A value of zeros that fits, dimensions of any size being `size`; a string of so many words."""
        if self.dtype == "string":
            return " ".join(["a"] * size)
        if self.dtype in TEXTUAL:
            return TEXTUAL[self.dtype]()
        return np.zeros([size if fixed == ANY else fixed for fixed in self.shape], self.dtype)


@dataclass(frozen=True, slots=True)
class Signature:
    """The declared inputs and outputs, by name; empty means undeclared and unchecked."""

    inputs: Mapping[str, TensorSpec] = field(default_factory=dict)
    outputs: Mapping[str, TensorSpec] = field(default_factory=dict)

    def check_rows(self, rows: Sequence[Any]) -> None:
        """Raise InvalidInput for the first row that does not fit: its index, the input, the remedy.

        With one declared input a row is the bare value, with several a dict of exactly those names.
        """
        if len(self.inputs) == 1:
            ((name, spec),) = self.inputs.items()
            _check(rows, name, spec)
        elif self.inputs:
            self._check_names(rows)
            for name, spec in self.inputs.items():
                _check([row[name] for row in rows], name, spec)

    def example_row(self, size: int = 1) -> Any:
        """A row that fits, dimensions of any size being `size`."""
        examples = {name: spec.example(size) for name, spec in self.inputs.items()}
        return next(iter(examples.values())) if len(examples) == 1 else examples

    def _check_names(self, rows: Sequence[Any]) -> None:
        names = self.inputs.keys()
        for index, row in enumerate(rows):
            if not isinstance(row, dict):
                raise _refusal(index, f"is a {type(row).__name__}: send a dict with {_join(names)}")
            if row.keys() != names:
                raise _refusal(index, _wrong_names(row, names))


@cache
def _leaves(dtype: str) -> frozenset[type]:
    return frozenset({TEXTUAL[dtype]}) if dtype in TEXTUAL else _LEAVES[np.dtype(dtype).kind]


@cache
def _limits(dtype: str) -> tuple[int, int] | None:
    """The least and the greatest value of an integer dtype."""
    if dtype in TEXTUAL or np.dtype(dtype).kind not in "iu":
        return None
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)


def _check(values: Sequence[Any], name: str, spec: TensorSpec) -> None:
    """Look at all rows at once, and at each one only if that does not settle it."""
    if spec.dtype == FREE or _surely_fit(values, spec):
        return
    for index, value in enumerate(values):
        problem = _problem(value, spec)
        if problem is not None:
            raise _refusal(index, f"input {name!r} {problem}: send {spec.describe()}", name)


def _surely_fit(values: Sequence[Any], spec: TensorSpec) -> bool:
    if set(map(type, values)) == {np.ndarray}:
        # A dtype takes a microsecond to say its name.
        dtypes, shapes = set(map(DTYPE, values)), set(map(SHAPE, values))
        return {dtype.name for dtype in dtypes} == {spec.dtype} and shapes == {spec.shape}
    level: Sequence[Any] = values
    for depth, size in enumerate(spec.shape):
        if set(map(type, level)) != {list}:
            return False
        sizes = set(map(len, level))
        # Rows may differ in a free first dimension; below it, a row must be rectangular.
        if sizes != {size} and not (size == ANY and (depth == 0 or len(sizes) == 1)):
            return False
        level = level[0] if len(level) == 1 else list(chain.from_iterable(level))
    return _all_of(spec.leaves, level) and _in_range(level, spec)


def _all_of(kinds: frozenset[type], leaves: Sequence[Any]) -> bool:
    # Counting one type takes half the time of collecting all.
    if leaves and type(leaves[0]) in kinds and countOf(map(type, leaves), type(leaves[0])) == len(leaves):
        return True
    return set(map(type, leaves)) <= kinds


def _in_range(leaves: Sequence[Any], spec: TensorSpec) -> bool:
    limits = _limits(spec.dtype)
    if limits is None or not leaves:
        return True
    return bool(limits[0] <= min(leaves) and max(leaves) <= limits[1])


def _problem(value: Any, spec: TensorSpec) -> str | None:
    if spec.dtype == "bytes" and not spec.shape and is_reference(value):
        return None
    array = np.asarray(value) if isinstance(value, np.generic) else as_array(value)
    return _array_problem(array, spec) if array is not None else _list_problem(value, spec)


def _array_problem(array: Array, spec: TensorSpec) -> str | None:
    textual = {"string": "U", "bytes": "S"}.get(spec.dtype)
    if textual is not None:
        fits = array.dtype.kind == textual
    else:
        fits = np.can_cast(array.dtype, spec.dtype, "safe")
    if not fits:
        return f"has dtype {array.dtype}"
    return None if _shape_fits(array.shape, spec.shape) else f"has the shape {array.shape}"


def _list_problem(value: Any, spec: TensorSpec) -> str | None:
    shape: list[int] = []
    level: list[Any] = [value]
    while level and all(type(item) in (list, tuple) for item in level):
        if len({len(item) for item in level}) > 1:
            return f"has lists of different lengths at depth {len(shape)}"
        shape.append(len(level[0]))
        level = list(chain.from_iterable(level))
    wrong = [leaf for leaf in level if type(leaf) not in spec.leaves]
    if wrong:
        return f"holds {wrong[0]!r:.60} ({type(wrong[0]).__name__})"
    if not _in_range(level, spec):
        return f"holds a number beyond {spec.dtype}"
    return None if _shape_fits(tuple(shape), spec.shape) else f"has the shape {tuple(shape)}"


def _shape_fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(w in (ANY, size) for size, w in zip(shape, wanted, strict=True))


def _wrong_names(row: Mapping[Any, Any], names: Any) -> str:
    missing = [name for name in names if name not in row]
    unknown = [key for key in row if key not in names]
    parts = [f"lacks {_join(missing)}"] if missing else []
    if unknown:
        near = difflib.get_close_matches(str(unknown[0]), list(names), n=1)
        parts.append(
            f"has {unknown[0]!r:.60}, which the model does not take" + (f" ({near[0]!r}?)" if near else "")
        )
    return f"{' and '.join(parts)}: send exactly {_join(names)}"


def _join(names: Any) -> str:
    return ", ".join(repr(name) for name in names)


def _refusal(index: int, problem: str, name: str | None = None) -> InvalidInput:
    place = f"rows[{index}]" if name is None else f"rows[{index}].{name}"
    return InvalidInput(f"row {index} {problem}" if name is None else f"row {index}: {problem}", field=place)
