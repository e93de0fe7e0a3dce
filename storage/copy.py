"""Postgres' binary COPY format, for the few column types that jobs are made of.

Source: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import chain, repeat
from operator import is_
from typing import Any
from uuid import UUID

import orjson

HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack("!ii", 0, 0)
TRAILER = struct.pack("!h", -1)
NULL = struct.pack("!i", -1)

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_int2 = struct.Struct("!ih").pack
_int4 = struct.Struct("!ii").pack
_int8 = struct.Struct("!iq").pack
_length = struct.Struct("!i").pack
_UUID_LENGTH = _length(16)

Encoder = Callable[[Any], bytes]
"""A field of one type with its length before it."""


def smallint(value: int) -> bytes:
    """An int2."""
    return _int2(2, value)


def integer(value: int) -> bytes:
    """An int4."""
    return _int4(4, value)


def text(value: str) -> bytes:
    """A text, or an enum's label."""
    return bytea(value.encode())


def bytea(value: bytes) -> bytes:
    """A bytea."""
    return _length(len(value)) + value


def uuid(value: UUID) -> bytes:
    """A uuid."""
    return _UUID_LENGTH + value.bytes


def jsonb(value: Any) -> bytes:
    """A jsonb, version 1."""
    return bytea(b"\x01" + orjson.dumps(value))


def timestamptz(value: datetime) -> bytes:
    """A timestamptz: microseconds since 2000."""
    return _int8(8, (value - _EPOCH) // _MICROSECOND)


def encode(rows: Iterable[Sequence[Any]], encoders: Sequence[Encoder]) -> BytesIO:
    """A whole COPY stream; None becomes NULL."""
    columns = list(zip(*rows, strict=True)) or [()] * len(encoders)
    count = len(columns[0]) if columns else 0
    # Most columns of a bunch hold one and the same value; neighbours of that kind are joined once for all.
    same, parts = struct.pack("!h", len(encoders)), []
    for values, encoder in zip(columns, encoders, strict=True):
        if all(map(is_, values, repeat(values[0] if values else None))):
            same += b"".join(_fields(values[:1], encoder))
        else:
            parts += [repeat(same, count), _fields(values, encoder)]
            same = b""
    tuples = chain.from_iterable(zip(*parts, repeat(same, count), strict=True))
    return BytesIO(b"".join((HEADER, *tuples, TRAILER)))


def _fields(values: Sequence[Any], encoder: Encoder) -> list[bytes]:
    return [NULL if value is None else encoder(value) for value in values]
