"""What a chunk reads and writes, in Arrow; loaded by an engine when it sees its first chunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from shunter.storage.errors import InvalidInput, shorten
from shunter.storage.outcome import RowFailure
from shunter.storage.scoring.chunk import Chunk
from shunter.storage.scoring.columns import output_columns
from shunter.storage.scoring.formats import PARQUET
from shunter.storage.scoring.reading import ChunkReader
from shunter.storage.scoring.rows import BadRow
from shunter.storage.scoring.sketches import Sketches, encode_sketches, sketch_every, sketch_table
from shunter.storage.scoring.writing import encode_error, encode_table, file_facts, schema_text
from shunter.storage.signature import Signature
from shunter.workers.assembly import Carried
from shunter.workers.isolation import Failure

CODE_CHARS = 200

UNWRITABLE = (pa.ArrowException, ValueError, TypeError, OverflowError, RecursionError)
"""What Arrow and the writers of text raise for values that they have no form for."""


class ChunkInput:
    """Reads chunks as a model takes them, Failures in the places of bad rows."""

    def __init__(self, signature: Signature) -> None:
        self._reader = ChunkReader(signature)

    def read(self, chunk: Chunk) -> tuple[list[Any], Carried, bool]:
        """The rows, what goes along, and whether rows may refer to objects.

        Raises InvalidInput, PayloadError, NotFound, Unavailable.
        """
        rows = self._reader.read(chunk)
        values = rows.values
        if BadRow in set(map(type, values)):
            values = [Failure(v.code, v.message) if type(v) is BadRow else v for v in values]
        sketch = _sketch(rows.inputs, chunk)
        return values, Carried(chunk, rows.carried, rows.numbers, sketch), rows.refers


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """What a chunk has come to: the bytes of its two files, none where nothing is to be told.

    `rows` and `schema` are of the outputs' file; `schema` is None if its format has none. `columns` are
    the sketches of what went in and came out.
    """

    failures: tuple[RowFailure, ...]
    rows: int
    data: bytes
    schema: str | None
    errors: bytes
    columns: bytes


def encode(results: Sequence[Any], carried: Carried) -> Encoded:
    """The files of a chunk; an output that has no form in Arrow fails its row alone.

    Raises InvalidInput when the rows together cannot be written.
    """
    try:
        try:
            return _encode(results, carried)
        except UNWRITABLE:
            return _encode([_writable(result) for result in results], carried)
    except UNWRITABLE as error:
        raise InvalidInput(
            f"the outputs cannot be written as {carried.chunk.spec.output_format}: {error!r:.500}",
            code="bad_output",
        ) from error


def _encode(results: Sequence[Any], carried: Carried) -> Encoded:
    # Models choose both, and Postgres and JSON keep them, which can hold neither NUL nor half a character.
    bad = Failure in set(map(type, results))
    failures = tuple(
        RowFailure(index, shorten(str(result.code), CODE_CHARS), shorten(str(result.message)))
        for index, result in (enumerate(results) if bad else ())
        if isinstance(result, Failure)
    )
    table = _output_table(results, carried, [failure.index for failure in failures])
    data, schema = _encode_rows(table, carried.chunk) if table.num_rows else (b"", None)
    return Encoded(
        failures=failures,
        rows=table.num_rows,
        data=data,
        schema=schema,
        errors=_encode_errors(carried, failures),
        columns=_encode_columns(table, carried),
    )


def _encode_columns(table: pa.Table, carried: Carried) -> bytes:
    kept = carried.columns.column_names
    outputs = {name: table[name] for name in table.column_names if name not in kept}
    return encode_sketches(inputs=carried.inputs, outputs=_sketch(outputs, carried.chunk))


def _sketch(columns: Mapping[str, pa.ChunkedArray], chunk: Chunk) -> Sketches:
    # By the chunk's number, so that a run after a kill looks at the same rows.
    return sketch_table(columns, every=sketch_every(chunk.spec.chunk_rows), seed=chunk.number)


def _writable(result: Any) -> Any:
    if isinstance(result, Failure):
        return result
    try:
        pa.table(output_columns([result], ()))
    except UNWRITABLE as error:
        return Failure("bad_output", f"the output cannot be written: {error!r:.500}")
    return result


def _output_table(results: Sequence[Any], carried: Carried, bad: Sequence[int]) -> pa.Table:
    """The rows' part of a chunk; without the bad ones, unless they are kept."""
    spec = carried.chunk.spec
    columns = {name: carried.columns[name] for name in carried.columns.column_names}
    if bad and not spec.keep_failed:
        failed = set(bad)
        good = [index for index in range(len(results)) if index not in failed]
        columns = {name: column.take(pa.array(good, pa.int64())) for name, column in columns.items()}
        outputs = [results[index] for index in good]
    elif bad:
        outputs = [None if isinstance(result, Failure) else result for result in results]
    else:
        outputs = list(results)
    return pa.table({**columns, **output_columns(outputs, list(columns))})


def _encode_rows(table: pa.Table, chunk: Chunk) -> tuple[bytes, str | None]:
    """The bytes of a part, and its schema if its format has one."""
    data = encode_table(table, chunk.spec.output_format, facts=file_facts(chunk.spec, chunk.scoring))
    return data, schema_text(table) if chunk.spec.output_format == PARQUET else None


def _encode_errors(carried: Carried, failures: Sequence[RowFailure]) -> bytes:
    """The errors' part of a chunk: a line for each failed row."""
    chunk = carried.chunk
    keys = None if chunk.spec.key is None else carried.columns[chunk.spec.key]
    return b"".join(
        encode_error(
            source=chunk.source.url,
            row=carried.numbers[failure.index],
            key=None if keys is None else keys[failure.index].as_py(),
            code=failure.code,
            message=failure.message,
        )
        for failure in failures
    )
