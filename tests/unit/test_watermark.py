"""Rows past a mark of a column: which they are, how they are cut into chunks, and the next mark."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shunter.storage.errors import InvalidInput
from shunter.storage.scoring.chunk import Chunk, Place, decode_chunk, encode_chunk
from shunter.storage.scoring.marks import Mark, Watermark
from shunter.storage.scoring.planning import FilePlanner
from shunter.storage.scoring.reading import ChunkReader
from shunter.storage.scoring.sources import Source, find_sources
from shunter.storage.scoring.spec import Spec
from shunter.storage.scoring.watermark import numbers_between, rows_past, stretches, survey
from shunter.storage.signature import Signature

FIVE = Mark("integer", "5")


def file_of(directory: Path, values: Any, *, name: str = "a", group: int = 4) -> Source:
    """A file with these values as `n`, beside the places that they are at."""
    table = pa.table({"n": values, "at": np.arange(len(values))})
    pq.write_table(table, directory / f"{name}.parquet", row_group_size=group)
    return find_sources(str(directory / f"{name}.parquet"))[0]


def past(source: Source, after: Mark | None) -> list[int]:
    return [int(number) for numbers, _ in rows_past(source, "n", after) for number in numbers]


def test_only_greater_values_lie_past_a_mark(tmp_path: Path) -> None:
    source = file_of(tmp_path, [5, 6, None, 4, 5, 9, 1, None, 7])
    assert past(source, FIVE) == [1, 5, 8]
    assert past(source, None) == [0, 1, 3, 4, 5, 6, 8]


def test_a_column_of_nulls_has_nothing_past_any_mark(tmp_path: Path) -> None:
    source = file_of(tmp_path, pa.array([None, None], pa.int64()))
    assert survey([source], "n", None) == ([], 0, None)


def test_what_is_no_finite_number_is_never_scored_nor_a_mark(tmp_path: Path) -> None:
    source = file_of(tmp_path, [1.5, float("nan"), float("inf"), -float("inf"), 2.5])
    assert survey([source], "n", None) == ([source], 2, Watermark("n", None, Mark("float", "2.5")))


def test_a_survey_tells_the_files_with_rows_past_the_mark_and_the_next_one(tmp_path: Path) -> None:
    old = file_of(tmp_path, [1, 2, 5], name="old")
    new = file_of(tmp_path, [9, 4, 6], name="new")
    assert survey([old, new], "n", FIVE) == ([new], 2, Watermark("n", FIVE, Mark("integer", "9")))
    assert survey([old, new], "n", Mark("integer", "9")) == ([], 0, None)


MIDNIGHT = datetime(2026, 10, 25, tzinfo=UTC)


@pytest.mark.parametrize(
    ("type", "values"),
    [
        (pa.uint64(), [2**64 - 2, 2**64 - 1]),
        (pa.float64(), [0.3, 0.1 + 0.2]),
        (pa.decimal128(10, 2), [Decimal("9.99"), Decimal("10.00")]),
        (pa.date32(), [date(2026, 1, 31), date(2026, 2, 1)]),
        (pa.timestamp("ns"), [1_234_567_890_123_456_788, 1_234_567_890_123_456_789]),
        # The hour that Berlin has twice.
        (pa.timestamp("us", "Europe/Berlin"), [MIDNIGHT, MIDNIGHT + timedelta(hours=1)]),
        (pa.timestamp("ns", "Nowhere/Else"), [1_234_567_890_123_456_788, 1_234_567_890_123_456_789]),
        (pa.timestamp("s", "+05:30"), [MIDNIGHT, MIDNIGHT + timedelta(seconds=1)]),
        (pa.string(), ["Zebra", "ähre"]),
        (pa.large_string(), ["a", "b"]),
    ],
    ids=str,
)
def test_a_mark_is_read_as_it_was_written(tmp_path: Path, type: pa.DataType, values: Sequence[Any]) -> None:
    source = file_of(tmp_path, pa.array([values[1], values[0]], type))
    _, _, watermark = survey([source], "n", None)
    assert watermark is not None
    assert survey([source], "n", watermark.until) == ([], 0, None)
    lower = file_of(tmp_path, pa.array(values[:1], type), name="lower")
    _, _, first = survey([lower], "n", None)
    assert first is not None
    assert past(source, first.until) == [0]


@pytest.mark.parametrize(
    ("values", "after", "message"),
    [
        (pa.array([True]), None, "is bool, which has no order"),
        (pa.array([[1]]), None, "which has no order"),
        (pa.array([1.0, 2.0], pa.float16()), None, "is halffloat, which has no order"),
        (pa.array(["5"]), FIVE, "has become text, and the mark 5 is integer"),
        (pa.array([0], pa.int8()), Mark("integer", "1000"), "the mark 1000 is no int8"),
    ],
)
def test_a_column_without_an_order_or_with_another_one_is_refused(
    tmp_path: Path, values: pa.Array, after: Mark | None, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        survey([file_of(tmp_path, values)], "n", after)


def test_an_instant_is_told_in_utc_and_read_as_it_was_told_before(tmp_path: Path) -> None:
    source = file_of(tmp_path, pa.array([MIDNIGHT], pa.timestamp("us", "Europe/Berlin")))
    _, _, watermark = survey([source], "n", None)
    assert watermark is not None
    assert watermark.until == Mark("instant", "2026-10-25 00:00:00.000000Z")
    assert survey([source], "n", Mark("instant", "2026-10-25 02:00:00.000000+0200")) == ([], 0, None)


def test_files_whose_types_have_no_common_order_are_refused(tmp_path: Path) -> None:
    numbers, text = file_of(tmp_path, [1], name="a"), file_of(tmp_path, ["1"], name="b")
    with pytest.raises(InvalidInput, match="column 'n' has no order that goes through all files"):
        survey([numbers, text], "n", None)


def test_a_column_that_is_not_there_is_named_with_its_likeness(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no column 'nn': did you mean 'n'"):
        survey([file_of(tmp_path, [1])], "nn", None)


def test_row_groups_that_the_statistics_rule_out_are_not_read(tmp_path: Path) -> None:
    source = file_of(tmp_path, np.arange(4_000), group=1_000)
    path = Path(source.url)
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    spoilt = bytearray(path.read_bytes())
    first = column.dictionary_page_offset or column.data_page_offset
    spoilt[first : first + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(spoilt)
    (source,) = find_sources(str(path))
    assert past(source, Mark("integer", "3997")) == [3998, 3999]


def test_stretches_hold_no_more_and_reach_no_further_than_they_may() -> None:
    groups = [np.array([0, 1, 2, 3]), np.array([4, 50, 51]), np.array([52, 99])]
    cut = [numbers.tolist() for numbers in stretches(iter(groups), most=3, widest=10)]
    assert cut == [[0, 1, 2], [3, 4], [50, 51, 52], [99]]


def spec_of(source: Source, watermark: Watermark | None) -> Spec:
    return Spec(
        model="m",
        version=1,
        input=source.url,
        output="/out",
        input_format="parquet",
        output_format="parquet",
        columns=("at",),
        chunk_rows=3,
        watermark=watermark,
    )


def planned(source: Source, spec: Spec, *, limit: int) -> list[Chunk]:
    """Every chunk of a file, planned so many at a time, each by a planner of its own, as after a kill."""
    place, chunks = Place(), list[Chunk]()
    while place.file == 0:
        spans, place = FilePlanner().plan(
            spec, source, place, limit=limit, number=len(chunks), stage=lambda *_: None
        )
        for span in spans:
            chunk = Chunk(
                scoring=uuid4(),
                number=len(chunks),
                source=source,
                span=span,
                spec=spec,
                parts="file:///parts",
            )
            chunks.append(decode_chunk(encode_chunk(chunk)))
    return chunks


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_chunks_hold_each_row_past_the_mark_once_however_they_are_planned(tmp_path: Path, limit: int) -> None:
    values = np.random.default_rng(1).permutation(100)
    source = file_of(tmp_path, values, group=16)
    spec = spec_of(source, Watermark("n", Mark("integer", "59"), Mark("integer", "99")))
    reader = ChunkReader(Signature())
    read = [reader.read(chunk) for chunk in planned(source, spec, limit=limit)]
    wanted = np.flatnonzero(values > 59).tolist()
    assert [row for rows in read for row in rows.values] == wanted
    assert [number for rows in read for number in rows.numbers] == wanted
    assert [len(rows.values) for rows in read] == [3] * 13 + [1]


def test_a_chunk_that_could_not_tell_of_its_rows_has_them_told(tmp_path: Path) -> None:
    source = file_of(tmp_path, [6, 1, 7, 8, 2, 9])
    assert numbers_between(source, Watermark("n", FIVE, Mark("integer", "9")), 1, 5) == [2, 3]


def test_a_question_without_a_watermark_is_the_one_that_it_was(tmp_path: Path) -> None:
    source = file_of(tmp_path, [1])
    plain, marked = spec_of(source, None), spec_of(source, Watermark("n", FIVE, Mark("integer", "9")))
    assert Spec.from_document(marked.document()) == marked
    assert Spec.from_document(plain.document()).identity() == plain.identity() != marked.identity()
