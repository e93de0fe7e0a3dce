"""Blocks of one array each, all of one dtype and shape, in one go: what `payload` does for each by itself."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from shunter.storage.errors import PayloadError
from shunter.storage.payload import CHECKSUM, HEADER_BYTES, Kind, block_kind, decode_rows, encode_rows
from shunter.storage.payload_arrays import Array, plain

SMALL_BYTES = 16 * 1024
"""Of a larger block copying costs more than what it costs to look at it by itself."""

_START_BYTES = HEADER_BYTES - CHECKSUM.size


def encode_alike(values: Sequence[Any]) -> list[bytes] | None:
    """What `encode_rows` makes of each value alone; None unless all are small arrays of one dtype and shape.

    Raises InvalidInput as it does.
    """
    first = values[0]
    if any(type(value) is not np.ndarray for value in values):
        return None
    if any(array.dtype != first.dtype or array.shape != first.shape for array in values):
        return None
    if first.dtype.kind in "US" or not 0 < first.nbytes <= SMALL_BYTES:
        return None
    pattern = encode_rows([first])
    start, description = pattern[:_START_BYTES], pattern[HEADER_BYTES : -first.nbytes]
    before = zlib.crc32(description, zlib.crc32(start))
    elements, size = plain(np.stack(values)).tobytes(), first.nbytes
    bodies = [elements[at : at + size] for at in range(0, len(elements), size)]
    return [start + CHECKSUM.pack(zlib.crc32(body, before)) + description + body for body in bodies]


def decode_alike(blocks: Sequence[bytes]) -> list[Array] | None:
    """The only row of each small block, if all are arrays of one dtype and shape; None otherwise.

    None, too, if any is damaged: `decode_rows` tells how. The rows are read-only views of one array.
    """
    first = blocks[0]
    try:
        (row,) = decode_rows(first) if block_kind(first) is Kind.ARRAYS else (None,)
    except (PayloadError, ValueError):
        return None
    if not isinstance(row, np.ndarray) or not (row.ndim and row.nbytes):
        return None
    if len(first) > SMALL_BYTES or any(len(block) != len(first) for block in blocks):
        return None
    table = np.frombuffer(b"".join(blocks), np.uint8).reshape(len(blocks), len(first))
    begins = len(first) - row.nbytes
    if not (_equal(table[:, :_START_BYTES]) and _equal(table[:, HEADER_BYTES:begins])):
        return None
    before = zlib.crc32(first[:_START_BYTES])
    checksums = b"".join(CHECKSUM.pack(zlib.crc32(block[HEADER_BYTES:], before)) for block in blocks)
    if table[:, _START_BYTES:HEADER_BYTES].tobytes() != checksums:
        return None
    stack = np.ascontiguousarray(table[:, begins:]).view(row.dtype).reshape(len(blocks), *row.shape)
    stack.flags.writeable = False
    return list(stack)


def _equal(lines: Array) -> bool:
    return bool((lines == lines[0]).all())
