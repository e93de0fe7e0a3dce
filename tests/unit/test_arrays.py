"""Array literals are read by Postgres as what was written."""

from __future__ import annotations

from uuid import UUID

from shunter.storage import arrays


def test_uuids_are_written_without_hyphens() -> None:
    id = UUID("00112233-4455-6677-8899-aabbccddeeff")
    assert arrays.uuids([id, id]) == "{" + ",".join([id.hex, id.hex]) + "}"


def test_nothing_is_an_empty_array_and_none_is_null() -> None:
    assert arrays.texts([]) == "{}"
    assert arrays.texts([None, "NULL"]) == '{NULL,"NULL"}'
    assert arrays.numbers([None, 1, -2.5]) == "{NULL,1,-2.5}"


def test_what_would_end_a_text_is_escaped() -> None:
    assert arrays.texts(['a"b\\c', "{,}"]) == '{"a\\"b\\\\c","{,}"}'


def test_bytes_are_hexadecimal() -> None:
    assert arrays.byteas([b"\0\xff", b"", None]) == '{"\\\\x00ff","\\\\x",NULL}'
