"""Postgres' binary COPY format, byte by byte."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest

from shunter.storage import copy

SIGNATURE = b"PGCOPY\n\xff\r\n\0"


def body(field: bytes) -> bytes:
    """What follows the length of a field, which must be true."""
    assert int.from_bytes(field[:4]) == len(field) - 4
    return field[4:]


def test_a_stream_without_rows_is_header_and_trailer() -> None:
    assert copy.encode([], [copy.integer]).read() == SIGNATURE + bytes(8) + b"\xff\xff"


def test_a_row_is_its_number_of_fields_and_each_field_with_its_length() -> None:
    stream = copy.encode([(1, "ab"), (2, "")], [copy.integer, copy.text]).read()
    first = b"\0\x02" + b"\0\0\0\x04" + b"\0\0\0\x01" + b"\0\0\0\x02" + b"ab"
    second = b"\0\x02" + b"\0\0\0\x04" + b"\0\0\0\x02" + b"\0\0\0\0"
    assert stream == copy.HEADER + first + second + copy.TRAILER


def test_none_is_null_whatever_the_type() -> None:
    encoders = (copy.integer, copy.text, copy.jsonb, copy.bytea)
    stream = copy.encode([(None,) * 4], encoders).read()
    assert stream == copy.HEADER + b"\0\x04" + b"\xff\xff\xff\xff" * 4 + copy.TRAILER


def test_a_column_of_one_value_is_like_any_other() -> None:
    rows = [(1, "a", None), (1, "a", None), (1, "b", "c")]
    encoders = (copy.integer, copy.text, copy.text)
    apart = [copy.encode([row], encoders).read() for row in rows]
    tuples = [stream.removeprefix(copy.HEADER).removesuffix(copy.TRAILER) for stream in apart]
    assert copy.encode(rows, encoders).read() == copy.HEADER + b"".join(tuples) + copy.TRAILER


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        copy.encode([(1,)], [copy.integer, copy.text])
    with pytest.raises(ValueError, match="zip"):
        copy.encode([(1, "a"), (1,)], [copy.integer, copy.text])


@pytest.mark.parametrize(
    ("value", "small", "large"),
    [(0, "0000", "00000000"), (1, "0001", "00000001"), (-1, "ffff", "ffffffff"), (-300, "fed4", "fffffed4")],
)
def test_integers_are_in_twos_complement(value: int, small: str, large: str) -> None:
    assert (body(copy.smallint(value)).hex(), body(copy.integer(value)).hex()) == (small, large)


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1])
def test_an_integer_that_does_not_fit_is_refused(value: int) -> None:
    with pytest.raises(Exception, match="format requires"):
        copy.integer(value)


@pytest.mark.parametrize(
    ("moment", "microseconds"),
    [
        (datetime(2000, 1, 1, tzinfo=UTC), 0),
        (datetime(2000, 1, 1, 0, 0, 1, 5, tzinfo=UTC), 1_000_005),
        (datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), -1),
        (datetime(1970, 1, 1, tzinfo=UTC), -946_684_800_000_000),
        (datetime(2000, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), 0),
    ],
)
def test_times_are_microseconds_from_the_year_2000_on(moment: datetime, microseconds: int) -> None:
    assert int.from_bytes(body(copy.timestamptz(moment)), signed=True) == microseconds
    assert len(body(copy.timestamptz(moment))) == 8


def test_the_other_types_are_their_bytes() -> None:
    id = UUID("00112233-4455-6677-8899-aabbccddeeff")
    assert body(copy.uuid(id)).hex() == "00112233445566778899aabbccddeeff"
    assert body(copy.text("ü")) == b"\xc3\xbc"
    assert body(copy.bytea(b"\0\xff")) == b"\0\xff"
    assert body(copy.jsonb({"ü": [1, None]})) == b'\x01{"\xc3\xbc":[1,null]}'
