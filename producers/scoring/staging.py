"""Rows from Python or a query, staged as one Parquet snapshot that the fleet can read."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq

from shunter.storage.errors import DatabaseUnavailable, EmptyRows, InvalidInput
from shunter.storage.object_store import ObjectStore
from shunter.storage.scoring.sources import STAGED
from shunter.storage.settings import redact

STAGED_ROWS = 16_384
"""Rows to a file of a snapshot."""

DIGEST_CHARS = 32


def stage(rows: object, store: ObjectStore) -> str:
    """Store rows (an Arrow table, or any iterable of dicts) as files, in bounded memory; returns their place.

    The same rows have the same place, so that the same call finds the same scoring.

    Raises EmptyRows, InvalidInput for rows that are no dicts or differ in type.
    """
    with tempfile.TemporaryDirectory(prefix="shunter-stage-") as name:
        parts, digest = [], hashlib.sha256()
        for number, table in enumerate(_tables(rows)):
            parts.append(Path(name) / f"part-{number:06}.parquet")
            pq.write_table(table, parts[-1])
            digest.update(parts[-1].read_bytes())
        if not parts:
            raise EmptyRows("there are no rows: give at least one", field="input")
        folder = f"{STAGED}/{digest.hexdigest()[:DIGEST_CHARS]}"
        there = {info.key for info in store.list(f"{folder}/")}
        for part in parts:
            if (key := f"{folder}/{part.name}") not in there:
                store.put(key, part.read_bytes())
    return f"{store.url}/{folder}"


def query_rows(database_url: str, query: str) -> Iterator[dict[str, Any]]:
    """The rows of a query, all of one snapshot, as they come; InvalidInput, DatabaseUnavailable."""
    try:
        with closing(psycopg2.connect(database_url)) as connection:
            connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
            with connection.cursor(name="shunter_scoring") as cursor:
                cursor.itersize = STAGED_ROWS
                cursor.execute(query)
                for row in cursor:
                    names = [column.name for column in cursor.description or ()]
                    yield dict(zip(names, row, strict=True))
    except psycopg2.OperationalError as error:
        raise DatabaseUnavailable(f"Postgres at {redact(database_url)} does not answer: {error}") from error
    except psycopg2.Error as error:
        reason = str(error).partition("\n")[0]
        raise InvalidInput(f"the query cannot be run: {reason}", field="input") from error


def _tables(rows: object) -> Iterator[pa.Table]:
    if hasattr(rows, "to_batches"):
        table: Any = rows
        for start in range(0, len(table), STAGED_ROWS):
            yield table.slice(start, STAGED_ROWS)
        return
    if isinstance(rows, str | bytes | dict) or not isinstance(rows, Iterable):
        raise InvalidInput(
            f"input is a {type(rows).__name__}: give a place, a table, or an iterable of dicts", field="input"
        )
    each = iter(rows)
    schema: pa.Schema | None = None
    while page := list(islice(each, STAGED_ROWS)):
        try:
            table = pa.Table.from_pylist(page, schema=schema)
        except (pa.ArrowException, AttributeError, TypeError) as error:
            raise InvalidInput(f"the rows cannot be one table: {error}: give dicts of one shape") from error
        schema = table.schema
        yield table
