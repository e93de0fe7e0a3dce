"""The pure parts of scoring: records, chunk sizes, questions and their limits, columns."""

from __future__ import annotations

import io
import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shunter.producers.scoring.estimate import Estimate
from shunter.storage.errors import InvalidInput, PayloadError
from shunter.storage.scoring.chunk import decode_chunk, is_chunk
from shunter.storage.scoring.columns import column_values, output_columns, to_column
from shunter.storage.scoring.formats import CSV, JSONL, common_format, compression_of, format_of
from shunter.storage.scoring.parquet import ParquetRows, UnreadableInput
from shunter.storage.scoring.planning import MAX_CHUNK_ROWS, chunk_rows
from shunter.storage.scoring.sources import Source, changes, find_sources
from shunter.storage.scoring.spec import Spec, errors_allowed, fingerprint
from shunter.storage.scoring.text import MAX_RECORD_BYTES, Records
from shunter.storage.scoring.writing import common_schema, encode_table, fit, schema_text

SPEC = Spec(
    model="digits",
    version=1,
    input="/in",
    output="/out",
    input_format="jsonl",
    output_format="parquet",
    chunk_rows=100,
)


def records(data: bytes, format: str = JSONL, **span: int) -> list[bytes | None]:
    file = io.BytesIO(data)
    file.seek(span.get("start", 0))
    return list(Records(file, format, **span))


def test_empty_lines_are_no_records() -> None:
    assert records(b"1\n\n \r\n2") == [b"1\n", b"2"]


def test_a_quote_of_csv_holds_a_record_together() -> None:
    assert records(b'a,"x\ny"\nb\n', CSV) == [b'a,"x\ny"\n', b"b\n"]
    assert records(b'a,"x\ny"\nb\n', JSONL) == [b'a,"x\n', b'y"\n', b"b\n"]


def test_a_quote_that_nobody_closes_spoils_one_line() -> None:
    assert records(b'a\n"b\nc\nd', CSV) == [b"a\n", b'"b\n', b"c\n", b"d"]


@given(st.lists(st.sampled_from([b"1", b"", b'"a', b'b"', b"\r", b'x,"y"']), max_size=30), st.data())
def test_records_are_the_same_read_from_any_of_their_beginnings(lines: list[bytes], data: Any) -> None:
    text = b"\n".join(lines)
    whole = Records(io.BytesIO(text), CSV)
    found, places = [], [0]
    for record in whole:
        found.append(record)
        places.append(whole.position)
    at = data.draw(st.integers(0, len(found)))
    assert records(text, CSV, start=0, stop=places[at]) == found[:at]
    assert records(text, CSV, start=places[at]) == found[at:]


@pytest.mark.parametrize(
    ("max_rows", "rows_per_s", "rows"),
    [(32, 0.0, 512), (256, 100_000.0, 65_536), (32, 10.0, 32), (1024, 20_000.0, 32_768), (1, 0.1, 1)],
)
def test_a_chunk_is_about_two_seconds_of_work(max_rows: int, rows_per_s: float, rows: int) -> None:
    assert chunk_rows(max_rows, rows_per_s) == rows <= MAX_CHUNK_ROWS


def test_the_noise_of_a_measurement_does_not_change_the_chunks() -> None:
    assert len({chunk_rows(64, rate) for rate in (9_500.0, 10_000.0, 10_500.0)}) == 1


def test_how_a_scoring_is_run_does_not_change_the_question() -> None:
    same = replace(SPEC, chunk_rows=7, priority="standard", max_errors="1%", force=True)
    assert same.identity() == SPEC.identity()
    others = [replace(SPEC, version=2), replace(SPEC, keep=("a",)), replace(SPEC, output="/other")]
    assert len({spec.identity() for spec in (SPEC, *others)}) == 4


def test_any_change_of_a_file_changes_the_fingerprint() -> None:
    before = [Source("/a", 1, "x"), Source("/b", 1, "x")]
    after = [[Source("/a", 2, "x"), before[1]], [before[0], Source("/b", 1, "y")], before[:1]]
    assert len({fingerprint(SPEC.identity(), sources) for sources in (before, *after)}) == 4
    assert changes(before, [Source("/b", 1, "y"), Source("/c", 1, "x")]) == (
        "/c is new, /a is gone, /b has changed"
    )


def test_a_spec_survives_its_document() -> None:
    spec = replace(SPEC, columns=("a", "b"), key="k", keep=("k", "c"), kinds=(("a", "int"),))
    assert Spec.from_document(spec.document()) == spec
    assert spec.carried == ("k", "c")


@pytest.mark.parametrize(("text", "allowed"), [("0", 0), ("12", 12), ("2.5%", 25), ("0%", 0), (" 7 ", 7)])
def test_errors_are_allowed_by_number_or_share(text: str, allowed: int) -> None:
    assert errors_allowed(text, 1000) == allowed


@pytest.mark.parametrize("text", ["", "-1", "101%", "-1%", "many", "%", "nan%"])
def test_other_limits_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="give a number of rows"):
        errors_allowed(text, 1000)


def test_formats_are_told_by_names() -> None:
    assert [format_of(name) for name in ("a.parquet", "A.JSONL.GZ", "b.csv.zst", "c.txt")] == [
        "parquet",
        "jsonl",
        "csv",
        None,
    ]
    assert [compression_of(name) for name in ("a.csv", "a.csv.gz", "a.zst")] == [None, "gzip", "zstd"]
    with pytest.raises(InvalidInput, match="different formats"):
        common_format([Source("a.csv", 1, ""), Source("b.parquet", 1, "")])


def test_a_reference_is_no_block_of_rows_and_damage_is_noticed() -> None:
    assert not is_chunk(None)
    assert not is_chunk(b"\xc1S")
    with pytest.raises(PayloadError):
        decode_chunk(b"\xc1R{}")


def test_lists_of_numbers_become_arrays_of_the_declared_dtype() -> None:
    column = pa.chunked_array([[[1.0, 2.0]], [[3.0], None]], pa.list_(pa.float64()))
    one, two, none = column_values(column, dtype="float32")
    assert (one.dtype, one.tolist(), two.tolist(), none) == (np.float32, [1.0, 2.0], [3.0], None)
    alike = column_values(pa.chunked_array([pa.array([[1, 2], [3, 4]]).slice(1)]))
    assert [row.tolist() for row in alike] == [[3, 4]]


def test_outputs_keep_their_dtype_and_their_gaps() -> None:
    column = to_column([np.float32(0.5), None, np.float32(1.5)])
    assert (column.type, column.to_pylist()) == (pa.float32(), [0.5, None, 1.5])
    arrays = to_column([np.array([1, 2], np.int8), None])
    assert (arrays.type, arrays.to_pylist()) == (pa.list_(pa.int8()), [[1, 2], None])


def test_values_of_mixed_types_become_json_text() -> None:
    assert to_column([1, "one", None, {"a": [1.5]}]).to_pylist() == ["1", '"one"', None, '{"a":[1.5]}']


def test_values_that_arrow_cannot_hold_become_text() -> None:
    assert to_column([1, 2**70]).to_pylist() == ["1", str(2**70)]
    assert to_column([{"a": b"\x00"}, {"a": {1, 2}}]).to_pylist()[1] == '{"a":"{1, 2}"}'
    assert to_column([float("nan"), None]).is_null().to_pylist() == [False, True]


def test_a_dict_gives_a_column_for_each_key() -> None:
    columns = output_columns([{"a": 1}, None, {"a": 2, "id": 3}], ["id"])
    assert {name: column.to_pylist() for name, column in columns.items()} == {
        "a": [1, None, 2],
        "prediction_id": [None, None, 3],
    }


def test_parts_are_brought_under_one_schema() -> None:
    tables = [pa.table({"p": [1, 2]}), pa.table({"p": [0.5], "q": ["x"]}), pa.table({"p": pa.nulls(1)})]
    schema = common_schema([schema_text(table) for table in tables])
    assert schema == pa.schema({"p": pa.float64(), "q": pa.string()})
    fitted = [fit(encode_table(table, "parquet", facts={}), schema, facts={}) for table in tables]
    read = [pq.read_table(io.BytesIO(data)) for data in fitted]
    assert [table.to_pylist() for table in read] == [
        [{"p": 1.0, "q": None}, {"p": 2.0, "q": None}],
        [{"p": 0.5, "q": "x"}],
        [{"p": None, "q": None}],
    ]


def test_an_estimate_counts_workers() -> None:
    facts: dict[str, Any] = {"model": "m", "version": 1, "files": 1, "exact": True, "chunk_rows": 1}
    estimate = Estimate(**facts, rows=1_200_000, workers=2, rows_per_s=1000.0)
    assert (estimate.seconds, estimate.workers_for(60), estimate.workers_for(600)) == (600.0, 20, 2)


def test_rows_of_a_parquet_file_can_be_read_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"x": list(range(100)), "y": [0.5] * 100}), path, row_group_size=7)
    (source,) = find_sources(str(path))
    with closing(ParquetRows(source, ["x"])) as rows:
        for first in (90, 0, 10, 3, 55):
            table = rows.read(first, 10)
            assert table.to_pydict() == {"x": list(range(first, first + 10))}
        with pytest.raises(UnreadableInput, match="ends 5 rows too early"):
            rows.read(95, 10)
        assert rows.read(95, 5)["x"].to_pylist() == [95, 96, 97, 98, 99]


def test_reading_a_long_parquet_file_keeps_nothing_of_it(tmp_path: Path) -> None:
    path, group = tmp_path / "in.parquet", 1 << 20
    with pq.ParquetWriter(
        path, pa.schema({"x": pa.binary()}), compression="none", use_dictionary=False
    ) as file:
        for _ in range(32):
            file.write_table(pa.table({"x": [os.urandom(group)]}))
    (source,) = find_sources(str(path))
    before = pa.total_allocated_bytes()
    with closing(ParquetRows(source, ["x"])) as rows:
        for first in range(32):
            assert rows.read(first, 1).num_rows == 1
            assert pa.total_allocated_bytes() - before < 8 * group


def test_a_record_may_be_so_long_and_no_longer() -> None:
    longest = b"x" * (MAX_RECORD_BYTES - 1) + b"\n"
    assert records(longest + b"a\n") == [longest, b"a\n"]
    assert records(b"x" + longest + b"a\n") == [None, b"a\n"]


@pytest.mark.parametrize("gap", [[], [None]])
def test_numbers_are_cast_where_they_stay_the_same_and_left_alone_elsewhere(gap: list[None]) -> None:
    def cast(rows: list[Any], type: pa.DataType, dtype: str) -> list[tuple[str, list[Any]]]:
        column = pa.chunked_array([pa.array([*rows, *gap], pa.list_(type))])
        return [(row.dtype.name, row.tolist()) for row in column_values(column, dtype=dtype)[: len(rows)]]

    assert cast([[1, 300], [1, 2]], pa.int64(), "int8") == [("int64", [1, 300]), ("int8", [1, 2])]
    assert cast([[1, 300], [7]], pa.int64(), "int8") == [("int64", [1, 300]), ("int8", [7])]
    assert cast([[-128, 127]], pa.int64(), "int8") == [("int8", [-128, 127])]
    assert cast([[]], pa.int64(), "int8") == [("int8", [])]
    assert cast([[0.5, 1.75]], pa.float64(), "int32") == [("float64", [0.5, 1.75])]
    assert cast([[0.5, 1.75]], pa.float64(), "float32") == [("float32", [0.5, 1.75])]
