"""Columns in sketches: as exact computation within their bounds, however the rows were divided."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from shunter.storage.errors import PayloadError
from shunter.storage.scoring.features import MOST_COLUMNS
from shunter.storage.scoring.sketches import (
    DISTINCT_ERROR,
    RANK_ERROR,
    ColumnSketch,
    Sketches,
    decode_sketches,
    encode_sketches,
    merge_into,
    sketch_every,
    sketch_table,
)


def sketched(values: Any, *, every: int = 1, seed: int = 0) -> ColumnSketch:
    column = values if isinstance(values, pa.Array) else pa.array(values)
    return sketch_table({"x": column}, every=every, seed=seed)["x"]


def in_chunks(column: pa.Array, size: int, *, every: int = 1) -> ColumnSketch:
    whole: Sketches = {}
    for start in range(0, len(column), size):
        part = sketch_table({"x": column.slice(start, size)}, every=every, seed=start)
        merge_into(whole, decode_sketches(encode_sketches(inputs=part))["inputs"])
    return whole["x"]


def rank_errors(column: ColumnSketch, numbers: np.ndarray[Any, Any]) -> list[float]:
    ordered, sketch = np.sort(numbers), column.measures["value"].sketch
    ranks = np.linspace(0.01, 0.99, 99)
    found = np.searchsorted(ordered, sketch.get_quantiles(list(ranks)), side="right") / len(ordered)
    return list(np.abs(found - ranks))


def test_chunks_merged_are_within_the_bounds_of_exact_computation() -> None:
    numbers = np.random.default_rng(1).lognormal(size=200_000)
    column = in_chunks(pa.array(numbers), 7_000)
    measure = column.measures["value"]
    assert (column.rows, measure.count) == (200_000, 200_000)
    assert measure.mean == pytest.approx(numbers.mean())
    assert (measure.low, measure.high) == (numbers.min(), numbers.max())
    # One quantile in a hundred may lie outside.
    assert sorted(rank_errors(column, numbers))[-2] <= RANK_ERROR + 1e-4
    assert column.values is not None
    assert column.values.distinct.get_estimate() == pytest.approx(200_000, rel=2 * DISTINCT_ERROR)


def test_a_sample_of_each_chunk_stands_for_all_rows_alike() -> None:
    numbers = np.concatenate([np.zeros(9_000), np.ones(1_000)])
    column = in_chunks(pa.array(numbers), 3_000, every=8)
    assert (column.rows, column.looked_at) == (10_000, 3 * 375 + 125)
    assert column.measures["value"].mean == pytest.approx(0.1, abs=0.002)


@pytest.mark.parametrize(("chunk_rows", "every"), [(1, 1), (8_192, 1), (8_193, 2), (65_536, 8)])
def test_small_chunks_are_looked_at_whole(chunk_rows: int, every: int) -> None:
    assert sketch_every(chunk_rows) == every


def test_the_same_rows_of_a_chunk_are_drawn_whoever_runs_it() -> None:
    numbers = pa.array(np.arange(1_000.0))
    first, again = (sketched(numbers, every=10, seed=7).measures["value"].total for _ in range(2))
    assert first == again


def test_values_that_repeat_are_counted() -> None:
    column = in_chunks(pa.array(["a"] * 60 + ["b"] * 30 + [f"once {n}" for n in range(10)]), 25)
    assert column.values is not None
    assert column.values.most_frequent(5) == [("a", 60), ("b", 30)]
    assert round(column.values.distinct.get_estimate()) == 12


def test_nulls_and_numbers_that_are_none_are_told_apart() -> None:
    column = sketched(pa.array([1.0, None, float("nan"), float("inf"), 3.0]))
    measure = column.measures["value"]
    assert (column.rows, column.nulls, measure.count, measure.strange) == (5, 1, 2, 2)
    assert (measure.low, measure.mean, measure.high) == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("values", "kind", "measured"),
    [
        ([1, 2, 3], "number", {"value": 2.0}),
        ([Decimal("1.5"), Decimal("2.5")], "number", {"value": 2.0}),
        ([True, False], "flag", {}),
        (["ab", "abcd"], "text", {"characters": 3.0}),
        ([b"ab", b"abcd"], "bytes", {"bytes": 3.0}),
        ([datetime(1970, 1, 1, 0, 1, tzinfo=UTC)], "time", {"seconds": 60.0}),
        ([[1.0, 3.0], [2.0, 2.0]], "numbers", {"length": 2.0, "mean": 2.0, "spread": 0.5}),
        ([[1, 3], [], [2, 2, 2]], "numbers", {"length": 5 / 3, "mean": 2.0, "spread": 0.5}),
        ([["a"], []], "list", {"length": 0.5}),
        ([{"a": 1}], "other", {}),
        ([None, None], "nothing", {}),
        ([], "nothing", {}),
    ],
)
def test_each_type_tells_what_it_can(values: list[Any], kind: str, measured: dict[str, float]) -> None:
    column = sketched(values)
    assert column.kind == kind
    assert {name: measure.mean for name, measure in column.measures.items()} == pytest.approx(measured)


def test_the_largest_of_scores_is_counted() -> None:
    scores = pa.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4], [0.9, 0.1]])
    column = sketched(scores)
    assert column.values is not None
    assert column.values.most_frequent(5) == [("1", 3), ("0", 2)]


@pytest.mark.parametrize("every", [1, 2])
def test_a_type_that_cannot_be_summed_up_costs_nobody_else(every: int) -> None:
    columns = {
        "strange": pa.RunEndEncodedArray.from_arrays([2, 4], pa.array([1, 2])),
        "x": pa.array(range(4)),
    }
    found = sketch_table(columns, every=every, seed=0)
    assert (found["strange"].kind, found["strange"].rows) == ("other", 4)
    assert found["x"].kind == "number"


def test_rows_with_any_number_of_keys_take_only_so_much_memory() -> None:
    whole: Sketches = {}
    for start in (0, MOST_COLUMNS):
        names = {f"c{n}": pa.array([n]) for n in range(start, start + MOST_COLUMNS + 1)}
        merge_into(whole, sketch_table(names, every=1, seed=0))
    assert len(whole) == MOST_COLUMNS


@pytest.mark.parametrize(
    ("others", "kind"), [([None], "number"), ([2.5], "number"), (["text"], "mixed"), ([[1]], "mixed")]
)
def test_parts_of_other_types_go_together(others: list[Any], kind: str) -> None:
    column = sketched([1, 2])
    column.merge(sketched(others))
    assert (column.kind, column.rows) == (kind, 3)


def test_a_part_of_nothing_does_not_hide_what_comes() -> None:
    column = sketched([None])
    column.merge(sketched([1.0]))
    assert (column.kind, column.nulls) == ("number", 1)


@pytest.mark.parametrize("data", [b"", b"\x00", b"{}", b"\x81\xa6inputs\x81\xa1x\x80"])
def test_bytes_that_are_no_sketches_are_refused(data: bytes) -> None:
    with pytest.raises(PayloadError, match="cannot be read"):
        decode_sketches(data)
