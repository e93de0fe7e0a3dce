"""The row codec: all rows of a job, or all its outputs, as one block of bytes, and back.

A block is a header of 16 bytes (magic, version, kind, row count, body length, CRC-32; little-endian) and
a body: msgpack, or one contiguous stack when every row is an array of the same dtype and shape.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import ormsgpack

from shunter.storage.errors import InvalidInput, PayloadError, TooLarge
from shunter.storage.payload_arrays import (
    Array,
    as_array,
    describe,
    pack_array,
    pack_scalar,
    plain,
    read_description,
    unpack_array,
    unpack_scalar,
    view,
)
from shunter.storage.payload_json import from_json, has_nonfinite, to_json
from shunter.storage.payload_refusal import MAX_NESTING, refusal

__all__ = [
    "CHECKSUM",
    "HEADER_BYTES",
    "MAX_BLOCK_ROWS",
    "MAX_NESTING",
    "Kind",
    "block_kind",
    "decode_rows",
    "encode_rows",
    "from_json",
    "has_nonfinite",
    "row_count",
    "to_json",
]

MAX_BLOCK_ROWS = 1_000_000
"""Far above any job: a damaged header cannot make a reader build billions of empty rows."""

_MAGIC = b"\xc1S"  # 0xC1 begins neither UTF-8 nor msgpack
_VERSION = 1
_START = struct.Struct("<2sBBII")
CHECKSUM = struct.Struct("<I")
"""The end of the header: a CRC-32 of what is before it, and of the body."""
HEADER_BYTES = _START.size + CHECKSUM.size
_MAX_BODY_BYTES = 2**32 - 1


class Kind(IntEnum):
    """What the body of a block is."""

    VALUES = 1
    ARRAYS = 2
    SCALARS = 3


class _Extension(IntEnum):
    ARRAY = 1
    SCALAR = 2


_NEVER_STACKED = frozenset((list, dict, str, bytes, float, int, bool, type(None)))
"""What JSON gives: no arrays among them, so that there is no need to look for one."""

# Without these, ormsgpack would quietly turn such objects into dicts and strings.
_OPTIONS = (
    ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_UUID
)


def encode_rows(rows: Sequence[object]) -> bytes:
    """All rows as one block.

    Values keep their type, arrays and numpy scalars their dtype and shape, NaN and infinities included, but:
    tuples and numpy string arrays become lists, bytearrays become bytes, subclasses of the JSON types their
    base, tensors numpy arrays (bfloat16 as float32), big-endian arrays little-endian.

    Raises InvalidInput naming the place (`rows[3].image[0]`), the type and the remedy; TooLarge.
    """
    if len(rows) > MAX_BLOCK_ROWS:
        raise TooLarge(f"{len(rows)} rows are more than one block holds ({MAX_BLOCK_ROWS}): split them")
    try:
        stacked = _stack(rows)
        if stacked is not None:
            return _frame(stacked[0], len(rows), stacked[1])
        body = ormsgpack.packb(list(rows), default=_pack_other, option=_OPTIONS)
    except (TypeError, InvalidInput) as error:
        raise refusal(rows, error) from error
    return _frame(Kind.VALUES, len(rows), [body])


def decode_rows(block: bytes | memoryview) -> list[object]:
    """The rows of a block; arrays are read-only, and may be views that keep the whole block in memory.

    Raises PayloadError, and nothing else, for bytes that `encode_rows` did not write.
    """
    data = memoryview(block).toreadonly().cast("B")
    kind, count, body = _open(data)
    try:
        rows = _unpack_values(body) if kind == Kind.VALUES else _unstack(kind, count, body)
    except ValueError as error:
        raise PayloadError(f"a block of {count} rows cannot be decoded: {error}") from error
    if type(rows) is not list or len(rows) != count:
        raise PayloadError(f"a block says that it holds {count} rows, and does not")
    return rows


def row_count(block: bytes | memoryview) -> int:
    """How many rows a block holds; the first HEADER_BYTES are enough. Raises PayloadError."""
    return _read_start(block)[1]


def block_kind(block: bytes | memoryview) -> Kind:
    """What the body of a block is; PayloadError if it is none, ValueError for a kind that is not known."""
    return Kind(_read_start(block)[0])


def _frame(kind: Kind, count: int, body: Sequence[bytes | memoryview]) -> bytes:
    # Not a generator: most blocks have one part, and every job has a block.
    length = sum([part.nbytes if isinstance(part, memoryview) else len(part) for part in body])
    if length > _MAX_BODY_BYTES:
        raise TooLarge(f"{count} rows take {length} bytes, more than one block holds: split them")
    start = _START.pack(_MAGIC, _VERSION, kind, count, length)
    checksum = zlib.crc32(start)
    for part in body:
        checksum = zlib.crc32(part, checksum)
    return b"".join((start, CHECKSUM.pack(checksum), *body))


def _read_start(block: bytes | memoryview) -> tuple[int, int, int]:
    if len(block) < HEADER_BYTES:
        raise PayloadError(f"{len(block)} bytes are too few for a block of rows")
    magic, version, kind, count, length = _START.unpack_from(block)
    if magic != _MAGIC:
        raise PayloadError("these bytes are not a block of rows")
    if version != _VERSION:
        raise PayloadError(f"this block has format {version}, and this host reads {_VERSION}: upgrade it")
    if count > MAX_BLOCK_ROWS:
        raise PayloadError(f"a block of {count} rows is damaged")
    return kind, count, length


def _open(data: memoryview) -> tuple[int, int, memoryview]:
    kind, count, length = _read_start(data)
    body = data[HEADER_BYTES:]
    if len(body) != length:
        raise PayloadError(f"a block is cut short or too long: {len(body)} bytes of body instead of {length}")
    (expected,) = CHECKSUM.unpack_from(data, _START.size)
    if zlib.crc32(body, zlib.crc32(data[: _START.size])) != expected:
        raise PayloadError(f"a block of {count} rows is damaged: its checksum does not match")
    return kind, count, body


def _stack(rows: Sequence[object]) -> tuple[Kind, list[bytes | memoryview]] | None:
    if not rows or type(rows[0]) in _NEVER_STACKED:
        return None
    scalar = isinstance(rows[0], np.generic)
    arrays = _scalars(rows) if scalar else _arrays(rows)
    if arrays is None or arrays[0].dtype.kind in "US":
        return None
    first = plain(arrays[0])
    kind = Kind.SCALARS if scalar else Kind.ARRAYS
    if len(arrays) == 1:
        return kind, [describe(first.dtype, first.shape), first.data]
    if any(array.dtype != arrays[0].dtype or array.shape != first.shape for array in arrays):
        return None
    # One copy of everything costs a third of looking at each array's order and bytes.
    joined = plain(np.concatenate(arrays) if first.ndim else np.stack(arrays))
    return kind, [describe(first.dtype, first.shape), joined.data]


def _arrays(rows: Sequence[object]) -> list[Array] | None:
    arrays = []
    for row in rows:
        array = as_array(row)
        if array is None:
            return None
        arrays.append(array)
    return arrays


def _scalars(rows: Sequence[object]) -> list[Array] | None:
    kind = type(rows[0])
    return [np.asarray(row) for row in rows] if all(type(row) is kind for row in rows) else None


def _unstack(kind: int, count: int, body: memoryview) -> list[Any]:
    dtype, shape, start = read_description(body)
    stack = view(body, start, dtype, (count, *shape))
    if kind == Kind.SCALARS and not shape:
        return list(stack)
    if kind == Kind.ARRAYS:
        return [stack[index, ...] for index in range(count)] if not shape else list(stack)
    raise ValueError(f"kind {kind} is unknown")


def _unpack_values(body: memoryview) -> Any:
    return ormsgpack.unpackb(body, ext_hook=_unpack_extension)


def _pack_other(value: object) -> object:
    """What msgpack has no type for; ormsgpack hides the message of what is raised here."""
    array = as_array(value)
    if array is not None:
        return _pack_array(array)
    if isinstance(value, np.generic) and not isinstance(value, bytes):
        return ormsgpack.Ext(_Extension.SCALAR, pack_scalar(value))
    if isinstance(value, float):
        return float(value)
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, tuple):
        return list(value)
    raise TypeError(f"{type(value).__name__} does not travel")


def _pack_array(array: Array) -> object:
    if array.dtype.kind in "US":
        return array.tolist()
    return ormsgpack.Ext(_Extension.ARRAY, pack_array(array))


def _unpack_extension(code: int, data: bytes) -> object:
    if code == _Extension.ARRAY:
        return unpack_array(data)
    if code == _Extension.SCALAR:
        return unpack_scalar(data)
    raise ValueError(f"extension {code} is unknown")
