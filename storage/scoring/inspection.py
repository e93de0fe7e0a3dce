"""What is in a scoring's input, looked at before anything is stored: columns, types, rows."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson
import pyarrow as pa

from shunter.storage.errors import EmptyRows, InvalidInput
from shunter.storage.scoring.formats import CSV, JSONL, PARQUET
from shunter.storage.scoring.parquet import UnreadableInput, open_parquet
from shunter.storage.scoring.reading import KINDS, split_csv
from shunter.storage.scoring.sources import Source, open_source
from shunter.storage.scoring.text import BOM, Records
from shunter.storage.scoring.text_stream import text_stream
from shunter.storage.signature import Signature

SAMPLE_RECORDS = 1_000
"""So many rows of a CSV tell the types of its columns."""


@dataclass(frozen=True, slots=True)
class InputFacts:
    """The columns of an input (None if each row may have its own), its rows if known, and a CSV's types."""

    columns: tuple[str, ...] | None
    total_rows: int | None
    kinds: tuple[tuple[str, str], ...] = ()
    first: Any = None


def inspect(sources: Sequence[Source], format: str) -> InputFacts:
    """Look at the files of an input. Raises EmptyRows, UnreadableInput, InvalidInput if they differ."""
    facts = {PARQUET: _parquet, CSV: _csv, JSONL: _jsonl}[format](sources)
    if facts.total_rows == 0:
        raise EmptyRows(f"there is no row in {sources[0].url}: score a dataset with rows", field="input")
    return facts


def choose_columns(
    asked: Sequence[str], facts: InputFacts, signature: Signature, carried: Collection[str]
) -> tuple[str, ...]:
    """The columns that make a row, none for the whole of it; InvalidInput if one is not there."""
    check_columns((*asked, *carried), facts)
    if asked:
        return tuple(asked)
    declared = tuple(signature.inputs)
    if facts.columns is None:
        return declared if isinstance(facts.first, dict) and set(declared) <= set(facts.first) else ()
    if declared and set(declared) <= set(facts.columns):
        return declared
    free = tuple(name for name in facts.columns if name not in carried)
    if len(declared) > 1 or (declared and len(free) != 1):
        check_columns(declared, facts)
    return free


def check_columns(names: Sequence[str], facts: InputFacts) -> None:
    """InvalidInput for the first column that the input lacks."""
    for name in names:
        if facts.columns is not None and name not in facts.columns:
            near = difflib.get_close_matches(name, facts.columns, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(facts.columns[:20])}"
            raise InvalidInput(f"the input has no column {name!r}: {hint}", field="columns")


def text_rows(sources: Sequence[Source], format: str) -> int:
    """About how many rows text files have, by the length of the first ones and the sizes of the files."""
    sample = [len(record or b"") for record in islice(_head(sources[0], format), SAMPLE_RECORDS)]
    each = max(1.0, sum(sample) / max(1, len(sample)))
    return max(len(sample), int(sum(source.size for source in sources) / each))


def _parquet(sources: Sequence[Source]) -> InputFacts:
    first: pa.Schema | None = None
    rows = 0
    for source in sources:
        with closing(open_parquet(source)) as file:
            schema, rows = file.schema_arrow.remove_metadata(), rows + file.metadata.num_rows
        if first is None:
            first = schema
        elif not schema.equals(first):
            raise InvalidInput(
                f"{source.url} differs from {sources[0].url}: {_difference(first, schema)}", field="input"
            )
    assert first is not None, "an input has at least one file; this is a bug"
    return InputFacts(tuple(first.names), rows)


def _difference(first: pa.Schema, other: pa.Schema) -> str:
    fields = {field.name: str(field.type) for field in other}
    for field in first:
        if fields.get(field.name) != str(field.type):
            return f"{field.name} is {fields.get(field.name, 'missing')}, not {field.type}"
    return f"its columns are {', '.join(other.names)}, not {', '.join(first.names)}"


def _csv(sources: Sequence[Source]) -> InputFacts:
    header: list[str] | None = None
    for source in sources:
        found = _header(source)
        if header is not None and found != header:
            raise InvalidInput(
                f"{source.url} begins with {','.join(found)}, and {sources[0].url} with {','.join(header)}: "
                "score files with different columns apart",
                field="input",
            )
        header = found
    assert header is not None, "an input has at least one file; this is a bug"
    if len(set(header)) < len(header):
        raise InvalidInput(f"{sources[0].url} has two columns of one name: rename one", field="input")
    rows = [row for record in islice(_head(sources[0], CSV), 1, SAMPLE_RECORDS) if (row := _cells(record))]
    whole = [row for row in rows if len(row) == len(header)]
    kinds = [(name, _kind([row[place] for row in whole])) for place, name in enumerate(header)]
    return InputFacts(tuple(header), 0 if not rows and len(sources) == 1 else None, tuple(kinds))


def _header(source: Source) -> list[str]:
    record = next(_head(source, CSV), None)
    cells = _cells(record)
    if not cells:
        raise UnreadableInput(f"{source.url} does not begin with a line of column names", field="input")
    return cells


def _cells(record: bytes | None) -> list[str]:
    try:
        return [] if record is None else split_csv(record.removeprefix(BOM))
    except (ValueError, csv.Error):
        # A bad row is told when it is read in its place.
        return []


def _kind(cells: Sequence[str]) -> str:
    present = [cell for cell in cells if cell.strip()]
    for name, read in KINDS.items():
        if present and all(_reads(read, cell) for cell in present):
            return name
    return "string"


def _reads(read: Any, cell: str) -> bool:
    try:
        read(cell)
    except ValueError:
        return False
    return True


def _jsonl(sources: Sequence[Source]) -> InputFacts:
    records = (record for source in sources for record in _head(source, JSONL))
    first = next(records, b"")
    if first == b"":
        return InputFacts(None, 0)
    try:
        value = None if first is None else orjson.loads(first.removeprefix(BOM))
    except ValueError:
        value = None
    return InputFacts(None, None, first=value)


def _head(source: Source, format: str) -> Iterator[bytes | None]:
    with closing(open_source(source)) as file:
        yield from Records(text_stream(file, source, start=0), format)
