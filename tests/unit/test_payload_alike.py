"""Blocks that are alike are encoded and decoded together as each would be by itself, or not at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shunter.storage.payload import HEADER_BYTES, decode_rows, encode_rows
from shunter.storage.payload_alike import SMALL_BYTES, decode_alike, encode_alike

DTYPES = ("<f4", ">f4", "<f8", "<i8", "|u1", "|b1", "<c8", "<f2")
COUNTS = st.integers(2, 5)


def blocks_of(*values: Any) -> list[bytes]:
    return [encode_rows([value]) for value in values]


def row(*numbers: float) -> np.ndarray[Any, Any]:
    return np.array(numbers, np.float32)


@given(st.data(), st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, max_dims=3, max_side=4), COUNTS)
def test_alike_arrays_become_the_same_blocks_and_rows(
    data: st.DataObject, dtype: str, shape: tuple[int, ...], count: int
) -> None:
    values = [data.draw(hnp.arrays(dtype, shape)) for _ in range(count)]
    blocks = encode_alike(values)
    assert blocks == blocks_of(*values)
    rows = decode_alike(blocks_of(*values))
    if not shape:
        assert rows is None
        return
    assert rows is not None
    for got, block in zip(rows, blocks_of(*values), strict=True):
        (expected,) = decode_rows(block)
        assert isinstance(expected, np.ndarray)
        assert (got.dtype, got.shape, got.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())
        assert not got.flags.writeable


def test_rows_that_lie_scattered_in_memory_are_encoded_as_they_read() -> None:
    table = np.arange(12, dtype=np.float32).reshape(3, 4)
    values = [table.T[0], table.T[3]]
    assert encode_alike(values) == blocks_of(*values)


@pytest.mark.parametrize(
    "values",
    [
        [row(1), row(1, 2)],
        [row(1), np.array([1.0])],
        [row(1), [1.0]],
        [row(1), None],
        [{"x": 1}, {"x": 1}],
        [np.array(["a"]), np.array(["b"])],
        [np.float32(1), np.float32(2)],
        [np.zeros(0), np.zeros(0)],
        [np.zeros(SMALL_BYTES + 1, np.uint8)] * 2,
    ],
)
def test_other_values_are_left_to_the_codec_of_one(values: list[Any]) -> None:
    assert encode_alike(values) is None
    assert decode_alike(blocks_of(*values)) is None


def test_blocks_of_several_rows_are_left_to_the_codec_of_one() -> None:
    assert decode_alike([encode_rows([row(1), row(2)])] * 2) is None


@pytest.mark.parametrize("block", [b"", b"x", b"x" * (HEADER_BYTES + 20)])
def test_bytes_that_are_no_block_are_left_to_the_codec_of_one(block: bytes) -> None:
    good = encode_rows([row(1)])
    assert decode_alike([block, block]) is None
    assert decode_alike([good, block]) is None
    assert decode_alike([block, good]) is None


def test_a_block_with_any_damaged_byte_is_left_to_the_codec_of_one() -> None:
    good = encode_rows([row(1, 2)])
    for place in range(len(good)):
        damaged = bytearray(good)
        damaged[place] ^= 0xFF
        for blocks in ([good, bytes(damaged)], [bytes(damaged), good], [bytes(damaged)] * 2):
            assert decode_alike(blocks) is None
