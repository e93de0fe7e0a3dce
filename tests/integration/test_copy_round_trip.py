"""What the COPY encoders write is what Postgres reads."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from shunter.storage import arrays, copy
from shunter.storage.database import Database

COLUMNS: list[tuple[str, copy.Encoder, list[Any]]] = [
    ("smallint", copy.smallint, [0, -1, 2**15 - 1, -(2**15)]),
    ("integer", copy.integer, [0, -1, 2**31 - 1, -(2**31)]),
    ("text", copy.text, ["", "grüße 你好 \U0001f680", "tab\tline\n\\N \\. '", "x" * 100_000]),
    ("uuid", copy.uuid, [UUID(int=0), UUID(int=2**128 - 1), uuid4()]),
    ("jsonb", copy.jsonb, [{}, [], None, {"a": [1, -2.5, "ü", None, True]}, "text", 2**53]),
    (
        "timestamptz",
        copy.timestamptz,
        [
            datetime(2000, 1, 1, tzinfo=UTC),
            datetime(1, 1, 1, tzinfo=UTC),
            datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            datetime(2026, 11, 21, 12, 30, 15, 123_456, tzinfo=UTC),
            datetime(9999, 12, 31, tzinfo=UTC) - timedelta(microseconds=1),
        ],
    ),
]


@pytest.mark.parametrize(("kind", "encoder", "values"), COLUMNS, ids=[kind for kind, _, _ in COLUMNS])
def test_values_come_back(database: Database, kind: str, encoder: copy.Encoder, values: list[Any]) -> None:
    assert round_trip(database, kind, encoder, values) == values


def test_blocks_come_back(database: Database) -> None:
    blocks = [b"", b"\0", bytes(range(256)) * 4096, None]
    found = round_trip(database, "bytea", copy.bytea, blocks)
    assert [None if block is None else bytes(block) for block in found] == blocks


def round_trip(database: Database, kind: str, encoder: copy.Encoder, values: list[Any]) -> list[Any]:
    """These values, copied into a column of this type and read again, in UTC."""
    rows = [(number, value) for number, value in enumerate(values)]
    with database.transaction() as cursor:
        cursor.execute(f"SET LOCAL timezone = 'UTC'; CREATE TEMP TABLE kept (n int, v {kind})")
        cursor.copy_expert("COPY kept FROM STDIN (FORMAT binary)", copy.encode(rows, [copy.integer, encoder]))
        cursor.execute("SELECT v FROM kept ORDER BY n")
        return [value for (value,) in cursor.fetchall()]


@pytest.mark.parametrize(
    ("kind", "literal", "values"),
    [
        ("uuid[]", arrays.uuids, [UUID(int=0), UUID(int=2**128 - 1)]),
        ("float8[]", arrays.numbers, [0.1, -1e300, None]),
        ("int[]", arrays.numbers, [0, -(2**31), None]),
        ("text[]", arrays.texts, ["", "NULL", None, '{a,"b"} \\ \n \'', "grüße \U0001f680"]),
    ],
)
def test_array_literals_come_back(
    database: Database, kind: str, literal: Callable[[list[Any]], str], values: list[Any]
) -> None:
    with database.statement() as cursor:
        cursor.execute(f"SELECT unnest(%s::{kind})", (literal(values),))
        assert [value for (value,) in cursor.fetchall()] == values


def test_an_array_of_blocks_comes_back(database: Database) -> None:
    blocks = [b"", b"\0", bytes(range(256)), None]
    with database.statement() as cursor:
        cursor.execute("SELECT unnest(%s::bytea[])", (arrays.byteas(blocks),))
        assert [None if found is None else bytes(found) for (found,) in cursor.fetchall()] == blocks
