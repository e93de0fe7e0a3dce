"""Tables as the bytes of a file, and errors as lines."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as kinds

from shunter.storage.payload_json import to_json
from shunter.storage.scoring.formats import JSONL, PARQUET
from shunter.storage.scoring.spec import Spec


def encode_table(table: pa.Table, format: str, *, facts: Mapping[str, str]) -> bytes:
    """One file of a dataset; `facts` go into a Parquet file's metadata."""
    if format == PARQUET:
        return _parquet(table, facts)
    rows = table.to_pylist()
    if format == JSONL:
        return b"".join(
            orjson.dumps(_json(row), default=str, option=orjson.OPT_APPEND_NEWLINE) for row in rows
        )
    return _csv(table.column_names, rows)


def file_facts(spec: Spec, scoring: UUID) -> dict[str, str]:
    """What a file says of where it comes from."""
    return {"model": spec.model, "version": str(spec.version), "scoring": str(scoring)}


def schema_text(table: pa.Table) -> str:
    """A table's schema in a form that can be stored."""
    return base64.b64encode(table.schema.remove_metadata().serialize()).decode()


def common_schema(texts: Iterable[str]) -> pa.Schema:
    """One schema that all parts can take: the wider of two types, or text."""
    schemas = [pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text))) for text in texts]
    names = list(dict.fromkeys(name for schema in schemas for name in schema.names))
    return pa.schema([_common_field(name, schemas) for name in names])


def _common_field(name: str, schemas: Sequence[pa.Schema]) -> pa.Field:
    fields = [pa.schema([schema.field(name)]) for schema in schemas if name in schema.names]
    try:
        return pa.unify_schemas(fields, promote_options="permissive").field(0)
    except pa.ArrowException:
        return pa.field(name, pa.string())


def read_table(data: bytes) -> pa.Table:
    """The rows of one file of a dataset in Parquet."""
    return pq.read_table(pa.BufferReader(data))


def fit(data: bytes, schema: pa.Schema, *, facts: Mapping[str, str]) -> bytes:
    """A Parquet file's rows under another schema."""
    table = read_table(data)
    columns = [
        _cast(table[field.name], field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return encode_table(pa.table(columns, schema=schema), PARQUET, facts=facts)


def _cast(column: pa.ChunkedArray, type: pa.DataType) -> Any:
    try:
        return column.cast(type)
    except pa.ArrowException:
        return pa.array([None if value is None else _text(value) for value in column.to_pylist()], type)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(_json(value), default=str).decode()


def _parquet(table: pa.Table, facts: Mapping[str, str]) -> bytes:
    sink = pa.BufferOutputStream()
    # What pandas and others noted of the input's columns does not describe these.
    plain = table.replace_schema_metadata(None)
    with pq.ParquetWriter(sink, plain.schema, use_dictionary=_repeating(plain.schema)) as writer:
        writer.write_table(plain)
        writer.add_key_value_metadata({f"shunter.{name}": value for name, value in facts.items()})
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _repeating(fields: Iterable[pa.Field], above: str = "") -> list[str]:
    """The paths of columns whose values may repeat: to look for floats in a dictionary only takes time."""
    paths: list[str] = []
    for field in fields:
        path, kind = f"{above}{field.name}", field.type
        if kinds.is_struct(kind):
            paths += _repeating(kind.fields, f"{path}.")
        elif kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind):
            paths += _repeating([pa.field("element", kind.value_type)], f"{path}.list.")
        elif not kinds.is_floating(kind):
            paths.append(path)
    return paths


def _csv(names: list[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_flat(row[name]) for name in names] for row in rows)
    return text.getvalue().encode()


def _flat(value: Any) -> Any:
    return (
        orjson.dumps(_json(value), default=str).decode() if isinstance(value, list | dict | bytes) else value
    )


def _json(value: Any) -> Any:
    """Numbers that JSON has no word for become null, as orjson writes them."""
    if isinstance(value, bytes | np.ndarray):
        return to_json(value)
    if type(value) is dict:
        return {key: _json(inner) for key, inner in value.items()}
    if type(value) is list and value and type(value[0]) in (bytes, list, dict):
        return [_json(inner) for inner in value]
    return value


def encode_error(*, source: str, row: int | None, key: Any, code: str, message: str) -> bytes:
    """One line of an errors file: which row failed, its key, and why.

    Rows count from 0 within their source; None if nobody knows which it was.
    """
    line = {"source": source, "row": row, "key": key, "code": code, "message": message}
    return orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE)
