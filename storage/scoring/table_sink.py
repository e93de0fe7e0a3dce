"""A Postgres table as a scoring's output: the rows of its dataset, inserted or updated by their key."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import orjson
import psycopg2
from psycopg2 import errors, sql

from shunter.storage.errors import DatabaseUnavailable, InvalidInput

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMES = ("postgresql://", "postgres://")
CONNECT_TIMEOUT_S = 10
LOCK_TIMEOUT_S = 30.0
"""A table that somebody holds for longer is tried again later: the finisher has other scorings."""
PAGE = 10_000
"""Rows made into text at once."""

COLUMNS = """
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
"""
UNIQUE = """
SELECT count(*) FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
WHERE indrelid = to_regclass(%s) AND indisunique AND indnkeyatts = 1 AND indpred IS NULL AND attname = %s
"""

STAGE = "CREATE TEMPORARY TABLE shunter_rows ON COMMIT DROP AS SELECT {columns} FROM {table} WITH NO DATA"
COPY = "COPY shunter_rows ({columns}) FROM STDIN WITH (FORMAT csv)"
UPSERT = """
INSERT INTO {table} ({columns}) SELECT {columns} FROM shunter_rows ON CONFLICT ({key}) DO UPDATE SET {changes}
"""
INSERT = "INSERT INTO {table} ({columns}) SELECT {columns} FROM shunter_rows ON CONFLICT ({key}) DO NOTHING"


class TableRefused(InvalidInput):
    """The rows cannot go into the table."""

    code = "table_refused"


def is_table(output: str) -> bool:
    """Whether an output is a table rather than a place for files."""
    return output.startswith(SCHEMES)


def check_table_url(url: str) -> None:
    """TableRefused if it names no table, or holds a password: it is stored, and shown to whoever asks."""
    parts = urlsplit(url)
    if parts.password or "password" in parse_qs(parts.query):
        raise TableRefused(
            "the URL of a table holds no password: set PGPASSWORD, a .pgpass file, or a service's name",
            field="output",
        )
    if not parts.fragment:
        raise TableRefused(
            "name the table behind a #, as in postgresql://host/database#schema.table", field="output"
        )


@dataclass(frozen=True, slots=True)
class TableSink:
    """`postgresql://user@host/database#schema.table`, with a unique index on the key's column."""

    url: str
    key: str
    lock_timeout_s: float = LOCK_TIMEOUT_S

    def check(self) -> None:
        """TableRefused if it cannot be written by key, DatabaseUnavailable."""
        with self._cursor() as cursor:
            self._types(cursor, (self.key,))
            cursor.execute(UNIQUE, (self._table, self.key))
            if cursor.fetchone() == (0,):
                raise TableRefused(
                    f"{self._table} has no unique index on {self.key!r} alone: create one", field="output"
                )

    def upsert(self, tables: Iterable[pa.Table]) -> None:
        """All rows in one transaction, so that doing it again changes nothing.

        Raises TableRefused, DatabaseUnavailable.
        """
        with self._cursor() as cursor:
            names: Sequence[str] = ()
            for table in tables:
                if not names:
                    names = table.column_names
                    writers = _writers(self._types(cursor, names))
                    cursor.execute(self._statement(STAGE, names))
                for rows in _pages(table):
                    cursor.copy_expert(self._statement(COPY, names), _csv(rows, writers))
            if names:
                cursor.execute(self._statement(UPSERT if len(names) > 1 else INSERT, names))

    @property
    def _table(self) -> str:
        return urlsplit(self.url).fragment

    def _statement(self, template: str, names: Sequence[str]) -> sql.Composed:
        columns = [sql.Identifier(name) for name in names]
        changes = [
            sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in names if name != self.key
        ]
        return sql.SQL(template).format(
            table=sql.Identifier(*self._table.split(".")),
            columns=sql.SQL(", ").join(columns),
            key=sql.Identifier(self.key),
            changes=sql.SQL(", ").join(changes),
        )

    def _types(self, cursor: Any, names: Iterable[str]) -> dict[str, str]:
        cursor.execute(COLUMNS, (self._table,))
        types = dict(cursor.fetchall())
        if not types:
            raise TableRefused(f"there is no table {self._table!r} in that database", field="output")
        missing = [name for name in names if name not in types]
        if missing:
            raise TableRefused(f"{self._table} has no column {missing[0]!r}: add it", field="output")
        return {name: types[name] for name in names}

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        check_table_url(self.url)
        parts = urlsplit(self.url)
        try:
            url = parts._replace(fragment="").geturl()
            connection = psycopg2.connect(url, connect_timeout=CONNECT_TIMEOUT_S)
            with closing(connection), connection, connection.cursor() as cursor:
                # Within the transaction, as the URL may have options of its own, and poolers take none.
                cursor.execute("SET LOCAL lock_timeout = %s", (round(self.lock_timeout_s * 1000),))
                yield cursor
        except psycopg2.OperationalError as error:
            raise DatabaseUnavailable(f"the database of the table {parts.fragment}: {error}") from error
        except errors.CardinalityViolation as error:
            raise TableRefused("two rows have one key: --check-keys says which", field="key") from error
        except psycopg2.Error as error:
            reason = str(error).partition("\n")[0]
            raise TableRefused(f"the rows cannot go into {parts.fragment}: {reason}") from error


def _pages(table: pa.Table) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(table), PAGE):
        yield table.slice(start, PAGE).to_pylist()


def _csv(rows: Iterable[Mapping[str, Any]], writers: Mapping[str, Callable[[Any], Any]]) -> io.StringIO:
    text = io.StringIO()
    # What is none stands bare and all else is quoted, which csv.writer learns with Python 3.12.
    for row in rows:
        cells = (None if row[name] is None else write(row[name]) for name, write in writers.items())
        text.write(",".join("" if cell is None else _quoted(cell) for cell in cells) + "\n")
    text.seek(0)
    return text


def _quoted(cell: Any) -> str:
    return '"' + str(cell).replace('"', '""') + '"'


def _writers(types: Mapping[str, str]) -> dict[str, Callable[[Any], Any]]:
    """How the values of each column are written for a column of its type."""
    return {name: _writer(type) for name, type in types.items()}


def _writer(type: str) -> Callable[[Any], Any]:
    if type in ("json", "jsonb"):
        return _json
    return _array if type.endswith("[]") else _plain


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    return _json(value) if isinstance(value, list | dict) else value


def _array(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    cells = ("NULL" if cell is None else _array_cell(cell) for cell in value)
    return "{" + ",".join(cells) + "}"


def _array_cell(cell: Any) -> str:
    if isinstance(cell, list):
        return _array(cell)
    return '"' + str(cell).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _json(value: Any) -> str:
    if isinstance(value, str):
        # Outputs of mixed types are JSON text already.
        with suppress(ValueError):
            orjson.loads(value)
            return value
    return orjson.dumps(value, default=str).decode()
