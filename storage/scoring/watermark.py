"""Rows of Parquet files past a mark: which they are, and up to where a scoring of them goes."""

from __future__ import annotations

import difflib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import types

from shunter.storage.errors import InvalidInput
from shunter.storage.scoring.marks import Mark, Watermark
from shunter.storage.scoring.parquet import groups_that_may_hold, open_parquet, parquet_errors
from shunter.storage.scoring.sources import Source

Numbers = NDArray[np.int64]

KINDS = (
    ("integer", types.is_integer),
    ("float", lambda type: types.is_floating(type) and not types.is_float16(type)),
    ("decimal", types.is_decimal),
    ("date", types.is_date),
    ("instant", lambda type: types.is_timestamp(type) and type.tz is not None),
    ("timestamp", types.is_timestamp),
    ("text", lambda type: types.is_string(type) or types.is_large_string(type)),
)
"""Types whose values have one order everywhere; of text it is that of its UTF-8 bytes."""


def survey(
    sources: Sequence[Source], column: str, after: Mark | None
) -> tuple[list[Source], int, Watermark | None]:
    """The files that hold rows past a mark, how many rows these are, and which; None if there are none.

    Only the column is read, and only row groups whose statistics do not rule it out. Raises InvalidInput if
    it is not there, or has no order, UnreadableInput, NotFound, Unavailable.
    """
    try:
        return _survey(sources, column, after)
    except pa.ArrowException as error:
        reason = str(error).partition("\n")[0]
        raise InvalidInput(
            f"column {column!r} has no order that goes through all files: {reason}: write them with one type",
            field="incremental_by",
        ) from error


def _survey(
    sources: Sequence[Source], column: str, after: Mark | None
) -> tuple[list[Source], int, Watermark | None]:
    files: list[Source] = []
    rows = 0
    greatest: Any = None
    for source in sources:
        before = rows
        for numbers, values in rows_past(source, column, after):
            rows += len(numbers)
            most = pc.max(values)
            greatest = most if greatest is None else pc.max_element_wise(greatest, most)
        if rows > before:
            files.append(source)
    if greatest is None:
        return [], 0, None
    return files, rows, Watermark(column, after, Mark(_kind(column, greatest.type), _text(greatest)))


def rows_past(
    source: Source, column: str, after: Mark | None, *, first: int = 0
) -> Generator[tuple[Numbers, pa.ChunkedArray]]:
    """The rows of a file past a mark, from row `first` on, rising: their numbers and values by row group."""
    with closing(open_parquet(source)) as file, parquet_errors(source.url):
        limit = _limit(_field(file.schema_arrow, column, source), after)
        groups = range(file.metadata.num_row_groups)
        # Without a limit there is nothing to rule out, and the file need not be opened another time.
        wanted = groups if limit is None else groups_that_may_hold(source, pc.field(column) > limit)
        start = 0
        for group in groups:
            end = start + file.metadata.row_group(group).num_rows
            if group in wanted and end > first:
                values = file.read_row_group(group, columns=[column])[column]
                places = _past(values, limit)
                places = places[places >= first - start]
                if len(places):
                    yield start + places, values.take(pa.array(places))
            start = end


def numbers_between(source: Source, watermark: Watermark, first: int, end: int) -> list[int]:
    """Those of the rows `first` to `end`, without it, that lie past the mark."""
    found: list[int] = []
    for numbers, _ in rows_past(source, watermark.column, watermark.after, first=first):
        found += numbers[numbers < end].tolist()
        if numbers[-1] >= end:
            break
    return found


def places_past(values: pa.ChunkedArray, watermark: Watermark) -> Numbers:
    """Which of a column's values lie past the mark, by their places."""
    limit = _limit(pa.field(watermark.column, values.type), watermark.after)
    return _past(values, limit)


def stretches(numbers: Iterator[Numbers], *, most: int, widest: int) -> Iterator[Numbers]:
    """Rising row numbers cut so that none has more than `most`, or spans more than `widest` rows of the file.

    Where a cut falls depends only on the number that it begins with.
    """
    rest = np.empty(0, np.int64)
    for more in numbers:
        rest = np.concatenate((rest, more))
        # What reaches to the last known number may go on in those to come.
        while len(rest) and (end := _end(rest, most, widest)) < len(rest):
            yield rest[:end]
            rest = rest[end:]
    while len(rest):
        end = _end(rest, most, widest)
        yield rest[:end]
        rest = rest[end:]


def _end(numbers: Numbers, most: int, widest: int) -> int:
    return min(most, int(np.searchsorted(numbers, numbers[0] + widest)))


def _past(values: pa.ChunkedArray, limit: pa.Scalar | None) -> Numbers:
    """Where values are greater than the limit, strictly; null and what is no finite number never are."""
    found = pc.is_valid(values) if limit is None else pc.greater(values, limit)
    if types.is_floating(values.type):
        # After infinity nothing would ever come.
        found = pc.and_(found, pc.is_finite(values))
    return np.flatnonzero(pc.fill_null(found, False).to_numpy())


def _field(schema: pa.Schema, column: str, source: Source) -> pa.Field:
    if column not in schema.names:
        near = difflib.get_close_matches(column, schema.names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(schema.names[:20])}"
        raise InvalidInput(f"{source.url} has no column {column!r}: {hint}", field="incremental_by")
    return schema.field(column)


def _limit(field: pa.Field, after: Mark | None) -> pa.Scalar | None:
    """The mark as a value of the column."""
    kind = _kind(field.name, field.type)
    if after is None:
        return None
    remedy = "add a schedule of another name, which begins with all rows"
    if kind != after.kind:
        raise InvalidInput(
            f"column {field.name!r} has become {kind}, and the mark {after.value} is {after.kind}: {remedy}",
            field="incremental_by",
        )
    try:
        return pa.scalar(after.value).cast(field.type)
    except pa.ArrowException as error:
        raise InvalidInput(
            f"the mark {after.value} is no {field.type}, which column {field.name!r} has become: {remedy}",
            field="incremental_by",
        ) from error


def _kind(column: str, type: pa.DataType) -> str:
    for kind, is_so in KINDS:
        if is_so(type):
            return kind
    raise InvalidInput(
        f"column {column!r} is {type}, which has no order to go by: name one of numbers, dates, timestamps "
        "or text",
        field="incremental_by",
    )


def _text(value: pa.Scalar) -> str:
    if types.is_timestamp(value.type) and value.type.tz is not None:
        # In UTC, which is also read without a database of zones, or where nobody knows the column's.
        return f"{value.cast(pa.timestamp(value.type.unit)).cast(pa.string()).as_py()}Z"
    return str(value.cast(pa.string()).as_py())
