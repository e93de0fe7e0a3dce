"""Array literals for bulk statements: one string each.

psycopg2 writes a list as an expression of as many constants, which Postgres parses, types and folds one by
one: for 256 rows of a dozen columns that costs more than the statement's own work.
Source: https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID


def uuids(values: Iterable[UUID]) -> str:
    """A uuid[]."""
    # Their bytes in hex, a comma after each 16.
    return "{" + b"".join([value.int.to_bytes(16) for value in values]).hex(",", 16) + "}"


def numbers(values: Iterable[float | None]) -> str:
    """An array of any kind of number."""
    return _array("NULL" if value is None else str(value) for value in values)


def labels(values: Iterable[str]) -> str:
    """An array of words of letters, such as an enum's."""
    return _array(values)


def texts(values: Iterable[str | None]) -> str:
    """A text[]."""
    return _array("NULL" if value is None else _quoted(value) for value in values)


def byteas(values: Iterable[bytes | None]) -> str:
    """A bytea[]."""
    return _array("NULL" if value is None else f'"\\\\x{value.hex()}"' for value in values)


def _array(elements: Iterable[str]) -> str:
    return "{" + ",".join(elements) + "}"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
