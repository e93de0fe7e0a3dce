"""Columns in constant memory: what their values were like, in sketches that can be merged in any order.

The sketches are those of Apache DataSketches: KLL for quantiles (Karnin, Lang, Liberty: Optimal Quantile
Approximation in Streams, 2016), HyperLogLog for distinct values, and Misra-Gries for the frequent ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import datasketches
import numpy as np
import ormsgpack
import pyarrow as pa
import pyarrow.compute as pc

from shunter.storage.errors import PayloadError
from shunter.storage.scoring.features import MOST_COLUMNS, Features, features_of

KLL_K, HLL_LG_K, FREQUENT_LG_SIZE = 400, 12, 10

RANK_ERROR: float = datasketches.kll_doubles_sketch(KLL_K).normalized_rank_error(False)
"""A quantile's rank is wrong by at most this, in 99 of 100 cases."""

DISTINCT_ERROR: float = datasketches.hll_sketch.get_rel_err(False, True, HLL_LG_K, 2)
"""The number of distinct values is wrong by at most this share of it, in 95 of 100 cases."""

FREQUENCY_ERROR: float = datasketches.frequent_strings_sketch.get_epsilon_for_lg_size(FREQUENT_LG_SIZE)
"""A value's share of the rows is wrong by at most this."""

SKETCHED_ROWS = 8_192
"""Of larger chunks, rows drawn at random go into the sketches: so many of a full chunk."""

LEAST_SHARE = 0.01
"""Of the rows, for a value to be called frequent: well above what a sketch may be wrong by."""

SHOWN_CHARS = 80
"""Longer texts are told apart by their beginning when the frequent ones are counted."""


@dataclass(slots=True)
class Measure:
    """One number per row; `strange` are those that are not finite, and in none of the other figures."""

    count: int = 0
    total: float = 0.0
    low: float = float("inf")
    high: float = float("-inf")
    strange: int = 0
    sketch: Any = field(default_factory=lambda: datasketches.kll_doubles_sketch(KLL_K))

    @property
    def mean(self) -> float | None:
        """None if there is no number."""
        return self.total / self.count if self.count else None

    def add(self, numbers: np.ndarray[Any, Any]) -> None:
        """Take more rows in."""
        finite = numbers[np.isfinite(numbers)]
        self.strange += len(numbers) - len(finite)
        if len(finite):
            self.count += len(finite)
            self.total += float(finite.sum())
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))
            self.sketch.update(finite)

    def merge(self, other: Measure) -> None:
        """Take in what another has seen."""
        self.count, self.total = self.count + other.count, self.total + other.total
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.strange += other.strange
        self.sketch.merge(other.sketch)

    def packed(self) -> list[Any]:
        """What msgpack takes."""
        return [self.count, self.total, self.low, self.high, self.strange, self.sketch.serialize()]

    @classmethod
    def unpacked(cls, fields: list[Any]) -> Measure:
        """Read what `packed` gave."""
        count, total, low, high, strange, sketch = fields
        return cls(count, total, low, high, strange, datasketches.kll_doubles_sketch.deserialize(sketch))


@dataclass(slots=True)
class Values:
    """Which values there were: how many different ones, and the frequent ones."""

    distinct: Any = field(default_factory=lambda: datasketches.hll_sketch(HLL_LG_K))
    frequent: Any = field(default_factory=lambda: datasketches.frequent_strings_sketch(FREQUENT_LG_SIZE))

    @property
    def count(self) -> int:
        """Values that were looked at."""
        return int(self.frequent.total_weight)

    def add(self, texts: pa.Array) -> None:
        """Take more rows in, each value as a text."""
        for counted in pc.value_counts(texts).to_pylist():
            self.distinct.update(counted["values"])
            self.frequent.update(counted["values"][:SHOWN_CHARS], counted["counts"])

    def merge(self, other: Values) -> None:
        """Take in what another has seen."""
        union = datasketches.hll_union(HLL_LG_K)
        union.update(self.distinct)
        union.update(other.distinct)
        self.distinct = union.get_result(datasketches.tgt_hll_type.HLL_4)
        self.frequent.merge(other.frequent)

    def most_frequent(self, limit: int) -> list[tuple[str, int]]:
        """Values that repeat, with about how often, the most frequent first; none of them by mistake."""
        certain = datasketches.frequent_items_error_type.NO_FALSE_POSITIVES
        found = [
            (text, count)
            for text, count, *_ in self.frequent.get_frequent_items(certain)
            if count > 1 and count >= LEAST_SHARE * self.count
        ]
        return sorted(found, key=lambda each: (-each[1], each[0]))[:limit]

    def packed(self) -> list[Any]:
        """What msgpack takes."""
        return [self.distinct.serialize_compact(), self.frequent.serialize()]

    @classmethod
    def unpacked(cls, fields: list[Any]) -> Values:
        """Read what `packed` gave."""
        return cls(
            datasketches.hll_sketch.deserialize(fields[0]),
            datasketches.frequent_strings_sketch.deserialize(fields[1]),
        )


@dataclass(slots=True)
class ColumnSketch:
    """One column: all its `rows` and `nulls`, and what a number `looked_at` of them were like.

    `single`: its lists hold no number that takes more than the 32 bits of a float.
    """

    kind: str
    rows: int = 0
    nulls: int = 0
    looked_at: int = 0
    measures: dict[str, Measure] = field(default_factory=dict)
    values: Values | None = None
    single: bool = True

    def add(self, features: Features) -> None:
        """Take in what was drawn from more rows."""
        self.looked_at += features.rows
        self.single = self.single and features.single
        for name, numbers in features.measures.items():
            self.measures.setdefault(name, Measure()).add(numbers)
        if features.values is not None:
            self.values = self.values or Values()
            self.values.add(features.values)

    def merge(self, other: ColumnSketch) -> None:
        """Take in what another has seen of the same column."""
        self.kind = self.kind if other.kind in (self.kind, "nothing") else _wider(self.kind, other.kind)
        self.rows, self.nulls = self.rows + other.rows, self.nulls + other.nulls
        self.looked_at += other.looked_at
        self.single = self.single and other.single
        for name, measure in other.measures.items():
            self.measures.setdefault(name, Measure()).merge(measure)
        if other.values is not None:
            self.values = self.values or Values()
            self.values.merge(other.values)


def _wider(kind: str, other: str) -> str:
    return other if kind == "nothing" else "mixed"


Sketches = dict[str, ColumnSketch]
"""Columns by name."""


def sketch_table(columns: Mapping[str, pa.Array | pa.ChunkedArray], *, every: int, seed: int) -> Sketches:
    """The columns of one chunk, of equal length; one row in `every` is looked at, drawn by `seed`."""
    return {
        name: _sketch(column, every=every, seed=seed)
        for name, column in islice(columns.items(), MOST_COLUMNS)
    }


def sketch_every(chunk_rows: int) -> int:
    """One row in how many is looked at: the same in all chunks of a scoring, so that rows count alike."""
    return -(-chunk_rows // SKETCHED_ROWS)


def _sketch(column: pa.Array | pa.ChunkedArray, *, every: int, seed: int) -> ColumnSketch:
    rows = len(column)
    nulls = column.null_count if column.type != pa.null() else rows
    try:
        if every > 1:
            chosen = np.random.default_rng(seed).choice(rows, -(-rows // every), replace=False, shuffle=False)
            column = column.take(pa.array(np.sort(chosen)))
        features = features_of(column)
        sketch = ColumnSketch(features.kind, rows, nulls)
        sketch.add(features)
        return sketch
    except (pa.ArrowException, ValueError, TypeError, OverflowError, RuntimeError):
        # What cannot be summed up must not fail the chunk.
        return ColumnSketch("other", rows, nulls)


def merge_into(whole: Sketches, part: Sketches) -> None:
    """Take a chunk's columns into those of all."""
    for name, sketch in part.items():
        if name in whole:
            whole[name].merge(sketch)
        elif len(whole) < MOST_COLUMNS:
            whole[name] = sketch


def encode_sketches(**groups: Sketches) -> bytes:
    """Named groups of columns as bytes."""
    return ormsgpack.packb(
        {group: {n: _packed(s) for n, s in group_.items()} for group, group_ in groups.items()}
    )


def decode_sketches(data: bytes) -> dict[str, Sketches]:
    """Read what `encode_sketches` wrote; PayloadError."""
    try:
        return {
            group: {name: _unpacked(fields) for name, fields in columns.items()}
            for group, columns in ormsgpack.unpackb(data).items()
        }
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError) as error:
        raise PayloadError(f"the sketches of columns cannot be read: {error!r:.200}") from error


def _packed(sketch: ColumnSketch) -> dict[str, Any]:
    return {
        "kind": sketch.kind,
        "rows": sketch.rows,
        "nulls": sketch.nulls,
        "looked_at": sketch.looked_at,
        "measures": {name: measure.packed() for name, measure in sketch.measures.items()},
        "values": None if sketch.values is None else sketch.values.packed(),
        "single": sketch.single,
    }


def _unpacked(fields: dict[str, Any]) -> ColumnSketch:
    return ColumnSketch(
        fields["kind"],
        fields["rows"],
        fields["nulls"],
        fields["looked_at"],
        {name: Measure.unpacked(measure) for name, measure in fields["measures"].items()},
        None if fields["values"] is None else Values.unpacked(fields["values"]),
        # Earlier versions did not tell.
        fields.get("single", False),
    )
