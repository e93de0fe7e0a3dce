"""Parquet files: how many rows they have, and any stretch of their rows, read only once if asked in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import BinaryIO

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from shunter.storage.errors import InvalidInput
from shunter.storage.scoring.sources import Source, is_s3, open_source

BATCH_ROWS, BATCH_BYTES = 16_384, 4 << 20
"""What is decoded at once, at most: few rows where they are large."""

MAX_DECODED_BYTES = 1 << 30
"""A chunk that grows to more in memory is refused: a few bytes of a dictionary can stand for any length."""

LEAST_BATCH_ROWS = 16

MAX_EXPANSION = 2_000
"""A file whose footer tells of so many times its size is a bomb."""


class UnreadableInput(InvalidInput):
    """The bytes of an input file are not what its format says."""

    code = "unreadable_input"


@contextmanager
def parquet_errors(url: str) -> Iterator[None]:
    """What pyarrow raises, as what it means."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise UnreadableInput(f"{url} cannot be read as Parquet: {reason}", field="input") from error


def open_parquet(source: Source) -> pq.ParquetFile:
    """A file, checked to be the same; UnreadableInput, InputChanged, NotFound."""
    file = open_source(source)
    with parquet_errors(source.url):
        try:
            # A buffered file keeps every row group that it has read, for as long as it is open.
            parquet = pq.ParquetFile(_arrow_file(source, file), pre_buffer=False, buffer_size=1 << 20)
        except BaseException:
            file.close()
            raise
    _refuse_bomb(parquet, source)
    return parquet


def groups_that_may_hold(source: Source, condition: ds.Expression) -> frozenset[int]:
    """The row groups of a file whose statistics do not rule a condition out."""
    with closing(_arrow_file(source, open_source(source))) as file, parquet_errors(source.url):
        fragment = ds.ParquetFileFormat().make_fragment(file)
        parts = fragment.split_by_row_group(condition, schema=fragment.physical_schema)
        return frozenset(group.id for part in parts for group in part.row_groups)


def _arrow_file(source: Source, file: BinaryIO) -> pa.NativeFile:
    if is_s3(source.url):
        return pa.PythonFile(file, mode="r")
    # Native reading does not hold the interpreter; the other handle has proved that it is the same file.
    file.close()
    return pa.OSFile(source.url)


def _refuse_bomb(parquet: pq.ParquetFile, source: Source) -> None:
    groups = range(parquet.metadata.num_row_groups)
    size = sum(parquet.metadata.row_group(group).total_byte_size for group in groups)
    if size > source.size * MAX_EXPANSION:
        raise UnreadableInput(f"{source.url} would grow from {source.size} to {size} bytes: it is refused")


def row_bytes(parquet: pq.ParquetFile, columns: Sequence[str]) -> float:
    """Bytes of a row's columns before compression, on average."""
    metadata, total = parquet.metadata, 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for index in range(group.num_columns):
            column = group.column(index)
            if column.path_in_schema.partition(".")[0] in columns:
                total += column.total_uncompressed_size
    return float(total / max(1, metadata.num_rows))


def _largest_value(parquet: pq.ParquetFile, columns: Sequence[str]) -> int:
    """What one value of a dictionary may take, at most; 1 if nothing is kept so."""
    metadata, largest = parquet.metadata, 1
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for index in range(group.num_columns):
            column = group.column(index)
            wanted = column.path_in_schema.partition(".")[0] in columns
            if wanted and column.physical_type == "BYTE_ARRAY" and column.has_dictionary_page:
                largest = max(largest, column.total_uncompressed_size)
    return largest


class ParquetRows:
    """Reads stretches of rows of a file; those that follow one another cost one pass."""

    def __init__(
        self, source: Source, columns: Sequence[str], *, most_bytes: int = MAX_DECODED_BYTES
    ) -> None:
        self.source = source
        self.columns = tuple(columns)
        self._file = open_parquet(source)
        each = max(1.0, row_bytes(self._file, columns))
        safe_rows = max(LEAST_BATCH_ROWS, most_bytes // 2 // _largest_value(self._file, columns))
        self._batch_rows = max(1, min(BATCH_ROWS, int(BATCH_BYTES / each), safe_rows))
        self._most_bytes = most_bytes
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._rest: pa.RecordBatch | None = None
        self._position: int | None = None

    def read(self, first: int, rows: int) -> pa.Table:
        """Rows `first` to `first + rows`; UnreadableInput if they cannot be had."""
        with parquet_errors(self.source.url):
            if self._position is None or first < self._position or self._skips_a_group(first):
                self._begin(first)
            self._take(first - (self._position or 0))
            batches = self._take(rows)
            return pa.Table.from_batches(batches, schema=batches[0].schema)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _skips_a_group(self, first: int) -> bool:
        """Whether rows before `first` can be left undecoded, as those of a whole row group."""
        position = self._position or 0
        return first > position and self._group_of(first)[0] > self._group_of(position)[0]

    def _group_of(self, row: int) -> tuple[int, int]:
        """The row group that holds a row, and the first row of it."""
        metadata, start, group = self._file.metadata, 0, 0
        while start + metadata.row_group(group).num_rows <= row:
            start += metadata.row_group(group).num_rows
            group += 1
        return group, start

    def _begin(self, first: int) -> None:
        """Start at the row group that holds this row."""
        group, self._position = self._group_of(first)
        self._rest = None
        self._batches = self._file.iter_batches(
            self._batch_rows,
            row_groups=list(range(group, self._file.metadata.num_row_groups)),
            columns=list(self.columns),
        )

    def _take(self, count: int) -> list[pa.RecordBatch]:
        taken, size = [], 0
        try:
            while count:
                batch = self._rest if self._rest is not None else next(self._batches)
                part = batch.slice(0, count)
                self._rest = batch.slice(len(part)) if len(part) < len(batch) else None
                self._position = (self._position or 0) + len(part)
                count -= len(part)
                taken.append(part)
                size += part.nbytes
                if size > self._most_bytes:
                    raise pa.ArrowInvalid(f"its rows grow beyond {self._most_bytes} bytes in memory")
        except StopIteration as error:
            raise pa.ArrowInvalid(f"it ends {count} rows too early") from error
        except BaseException:
            # Where the iterator stands now, nobody knows.
            self._position = None
            raise
        return taken
