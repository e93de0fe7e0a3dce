"""Rows of a Parquet file: what grows without measure in memory is refused before it does."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shunter.storage.scoring.parquet import ParquetRows, UnreadableInput
from shunter.storage.scoring.sources import find_sources


def a_bomb(path: Path, *, rows: int, value_bytes: int) -> Path:
    """Every row is the same long text, which the file holds once."""
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), ["x" * value_bytes])
    pq.write_table(pa.table({"text": texts}), path, dictionary_pagesize_limit=64 << 20, store_schema=False)
    assert path.stat().st_size * 1000 < rows * value_bytes
    return path


def test_a_few_bytes_of_a_dictionary_cannot_fill_the_memory(tmp_path: Path) -> None:
    (source,) = find_sources(str(a_bomb(tmp_path / "bomb.parquet", rows=20_000, value_bytes=64_000)))
    with pytest.raises(UnreadableInput, match="grow beyond 33554432 bytes in memory"):
        ParquetRows(source, ["text"], most_bytes=32 << 20).read(0, 20_000)
    assert pa.total_allocated_bytes() < 64 << 20


def test_a_dictionary_of_short_texts_is_read(tmp_path: Path) -> None:
    (source,) = find_sources(str(a_bomb(tmp_path / "fine.parquet", rows=20_000, value_bytes=500)))
    table = ParquetRows(source, ["text"], most_bytes=32 << 20).read(0, 20_000)
    assert (len(table), table["text"][19_999].as_py()) == (20_000, "x" * 500)
