"""A chunk's rows, as the model takes them, beside the input columns that its output carries."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import orjson
import pyarrow as pa

from shunter.storage.errors import InvalidInput, PayloadError
from shunter.storage.payload_json import from_json
from shunter.storage.references import REF_KEY, reference, urls_in
from shunter.storage.scoring.chunk import Chunk, Span
from shunter.storage.scoring.columns import column_values, to_column
from shunter.storage.scoring.features import MOST_COLUMNS
from shunter.storage.scoring.formats import CSV, PARQUET
from shunter.storage.scoring.parquet import ParquetRows
from shunter.storage.scoring.rows import BadRow
from shunter.storage.scoring.sources import open_source, store_at
from shunter.storage.scoring.spec import Spec
from shunter.storage.scoring.text import BOM, MAX_RECORD_BYTES, Records
from shunter.storage.scoring.text_stream import text_stream
from shunter.storage.scoring.watermark import places_past
from shunter.storage.signature import NUMERIC, Signature


@dataclass(frozen=True, slots=True)
class ChunkRows:
    """The rows of a chunk, bad ones in their places; `carried` and `numbers` (within the file) go along.

    `refers` says that rows may hold references; `inputs` are the columns that rows are made of, once more,
    for those who sum them up.
    """

    values: list[Any]
    carried: pa.Table
    numbers: Sequence[int]
    refers: bool
    inputs: Mapping[str, pa.ChunkedArray]


class ChunkReader:
    """Reads chunks one after another; a Parquet file stays open, so that chunks in order cost one pass.

    Not safe for threads. Raises UnreadableInput, InputChanged, PayloadError, NotFound, Unavailable.
    """

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._open: ParquetRows | None = None

    def read(self, chunk: Chunk) -> ChunkRows:
        """Every row of a chunk, or those that it names."""
        rows = self._table_rows(chunk) if chunk.spec.input_format == PARQUET else _text_rows(chunk)
        if len(rows.values) != chunk.span.own:
            raise PayloadError(
                f"{chunk.source.url}: {len(rows.values)} rows are where {chunk.span.own} were planned"
            )
        if chunk.span.only is not None:
            rows = _only(rows, chunk.span, chunk.span.only)
        values = [_referring(value, chunk.spec) for value in rows.values] if chunk.spec.fetch else rows.values
        return replace(rows, values=_checked(values, self._signature))

    def _table_rows(self, chunk: Chunk) -> ChunkRows:
        first, past = chunk.span.first_row, chunk.spec.watermark
        table = self._parquet(chunk).read(first, chunk.span.rows)
        numbers: Sequence[int] = range(first, first + chunk.span.rows)
        if past is not None:
            places = places_past(table[past.column], past)
            table, numbers = table.take(pa.array(places)), (first + places).tolist()
        wanted = {name: self._dtype(name) for name in chunk.spec.columns}
        columns = [column_values(table[name], dtype=dtype) for name, dtype in wanted.items()]
        values = columns[0] if len(wanted) == 1 else [dict(zip(wanted, row)) for row in zip(*columns)]  # noqa: B905
        refers = bool(chunk.spec.fetch) or any(REF_KEY in str(table[name].type) for name in wanted)
        return ChunkRows(
            values,
            table.select(chunk.spec.carried),
            numbers,
            refers,
            {name: table[name] for name in chunk.spec.columns},
        )

    def _parquet(self, chunk: Chunk) -> ParquetRows:
        columns = chunk.spec.needed
        known = self._open
        if known is None or (known.source, known.columns) != (chunk.source, columns):
            if known is not None:
                known.close()
            self._open = None
            self._open = known = ParquetRows(chunk.source, columns)
        return known

    def _dtype(self, name: str) -> str | None:
        declared = self._signature.inputs
        spec = next(iter(declared.values())) if len(declared) == 1 else declared.get(name)
        return spec.dtype if spec is not None and spec.dtype in NUMERIC else None


def _text_rows(chunk: Chunk) -> ChunkRows:
    parsed = list(parse_records(_records(chunk), chunk.spec, first=chunk.span.start == 0))
    spec, first = chunk.spec, chunk.span.first_row
    carried = {name: to_column([_cell(row, name) for row in parsed]) for name in spec.carried}
    values = [row if isinstance(row, BadRow) else _select(row, spec) for row in parsed]
    table = pa.table(carried) if carried else pa.table({}).select([])
    refers = bool(spec.fetch) or any(True for value in values for _ in urls_in(value))
    return ChunkRows(values, table, range(first, first + len(values)), refers, _columns(values, spec))


def _columns(values: Sequence[Any], spec: Spec) -> Mapping[str, pa.ChunkedArray]:
    """Rows of text as columns again, null where a row is bad or lacks one."""
    rows = [None if isinstance(value, BadRow) else value for value in values]
    try:
        if len(spec.columns) == 1 or not any(type(row) is dict for row in rows):
            return {(*spec.columns, "row")[0]: pa.chunked_array([to_column(rows)])}
        found = dict.fromkeys(name for row in rows if type(row) is dict for name in row)
        return {
            name: pa.chunked_array([to_column([_cell(row, name) for row in rows])])
            for name in islice(found, MOST_COLUMNS)
        }
    except (UnicodeError, RecursionError):
        # What Arrow has no form for is still a row for a model.
        return {}


def _records(chunk: Chunk) -> Iterator[bytes | None]:
    span = chunk.span
    if span.rows == 1 and span.stop - span.start > MAX_RECORD_BYTES:
        return iter((None,))
    if span.staged is not None:
        return iter(Records(io.BytesIO(store_at(chunk.parts).get(span.staged)), chunk.spec.input_format))
    return _file_records(chunk)


def _file_records(chunk: Chunk) -> Iterator[bytes | None]:
    span = chunk.span
    with closing(open_source(chunk.source)) as file:
        stream = text_stream(file, chunk.source, start=span.start)
        yield from Records(stream, chunk.spec.input_format, start=span.start, stop=span.stop)


def parse_records(records: Iterator[bytes | None], spec: Spec, *, first: bool) -> Iterator[Any]:
    """Each record as a value (of CSV a dict of all columns) or a BadRow; `first` if a file begins here."""
    read = _read_csv if spec.input_format == CSV else _read_json
    for record in records:
        if record is None:
            yield BadRow(
                "row_too_large", f"the row is larger than {MAX_RECORD_BYTES} bytes, and was not read"
            )
            continue
        clean = record.removeprefix(BOM) if first else record
        first = False
        try:
            yield read(clean, spec)
        except UnicodeDecodeError as error:
            yield BadRow("bad_encoding", f"byte {error.start} of the row is not UTF-8")
        except (ValueError, csv.Error, InvalidInput) as error:
            yield BadRow("bad_row", str(error))


def _read_json(record: bytes, spec: Spec) -> Any:
    # Decoded first: orjson's word for bad UTF-8 is hard to tell from one for bad JSON.
    return from_json(orjson.loads(record.decode()), where="row")


def _read_csv(record: bytes, spec: Spec) -> dict[str, Any]:
    cells = split_csv(record)
    if len(cells) != len(spec.kinds):
        raise ValueError(f"the row has {len(cells)} cells, and the header {len(spec.kinds)}")
    return {name: _typed(cell, name, kind) for cell, (name, kind) in zip(cells, spec.kinds, strict=True)}


def split_csv(record: bytes) -> list[str]:
    """The cells of one record of CSV; ValueError, csv.Error."""
    lines = list(csv.reader([record.decode().rstrip("\r\n")], strict=True))
    return lines[0] if lines else []


KINDS: Mapping[str, Any] = {"int": int, "float": float, "string": str}
"""How the cells of a CSV's column are read, the narrowest first."""


def _typed(cell: str, name: str, kind: str) -> Any:
    if kind == "string":
        return cell
    if not cell.strip():
        return None
    try:
        return KINDS[kind](cell)
    except ValueError:
        raise ValueError(f"column {name!r} holds {cell!r:.60}, which is no {kind}") from None


def _cell(row: Any, name: str) -> Any:
    return row.get(name) if isinstance(row, dict) else None


def _select(row: Any, spec: Spec) -> Any:
    if not spec.columns:
        return row
    if not isinstance(row, dict):
        return BadRow("bad_row", f"the row is a {type(row).__name__}, and columns are wanted: give objects")
    missing = [name for name in spec.columns if name not in row]
    if missing:
        return BadRow("missing_column", f"the row lacks {', '.join(missing)}")
    if len(spec.columns) == 1:
        return row[spec.columns[0]]
    return {name: row[name] for name in spec.columns}


def _referring(value: Any, spec: Spec) -> Any:
    """A row with references in place of the URLs of its columns that are to be fetched."""
    if isinstance(value, BadRow):
        return value
    if len(spec.columns) == 1:
        return _to_reference(value, spec.columns[0])
    row = {**value, **{name: _to_reference(value[name], name) for name in spec.fetch}}
    return next((cell for cell in row.values() if isinstance(cell, BadRow)), row)


def _to_reference(url: Any, name: str) -> Any:
    if isinstance(url, str):
        return reference(url)
    return BadRow("bad_row", f"column {name!r} holds {url!r:.60}, where a URL to fetch is wanted")


def _checked(values: list[Any], signature: Signature) -> list[Any]:
    """The rows, those that do not fit the model's signature marked; all at once if none is bad."""
    try:
        if BadRow not in set(map(type, values)):
            signature.check_rows(values)
            return values
    except InvalidInput:
        pass
    return [_fitting(value, signature) for value in values]


def _fitting(value: Any, signature: Signature) -> Any:
    if isinstance(value, BadRow):
        return value
    try:
        signature.check_rows([value])
    except InvalidInput as error:
        return BadRow(error.code, error.message.removeprefix("row 0").lstrip(": "))
    return value


def _only(rows: ChunkRows, span: Span, errors_file: str) -> ChunkRows:
    numbers = failed_rows(errors_file)
    if len(numbers) != span.failed:
        raise PayloadError(f"{errors_file} names {len(numbers)} rows, and {span.failed} failed")
    places = {number: place for place, number in enumerate(rows.numbers)}
    strange = next((line for line, number in enumerate(numbers, 1) if number not in places), None)
    if strange is not None:
        raise PayloadError(
            f"{errors_file}, line {strange}: row {numbers[strange - 1]} is none of the {span.rows} rows "
            f"from {span.first_row} on"
        )
    chosen = [places[number] for number in numbers]
    carried = rows.carried.take(chosen) if rows.carried.num_columns else rows.carried
    inputs = {name: column.take(pa.array(chosen, pa.int64())) for name, column in rows.inputs.items()}
    values = [rows.values[place] for place in chosen]
    return replace(rows, values=values, carried=carried, numbers=numbers, inputs=inputs)


def failed_rows(url: str) -> list[int]:
    """The row numbers in an errors file; PayloadError naming the line, NotFound, Unavailable."""
    folder, _, name = url.rpartition("/")
    lines = store_at(folder).get(name).splitlines()
    return [_row_number(line, f"{url}, line {number}") for number, line in enumerate(lines, 1)]


def _row_number(line: bytes, where: str) -> int:
    try:
        row = orjson.loads(line)["row"]
    except (ValueError, KeyError, TypeError) as error:
        raise PayloadError(f"{where} cannot be read: {error!r}") from error
    if type(row) is not int:
        raise PayloadError(f"{where} names no row, but {row!r:.60}")
    return row
