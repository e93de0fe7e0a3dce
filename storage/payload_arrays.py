"""Arrays, numpy scalars and tensors as bytes: a short description, then the elements; never a pickle."""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shunter.storage.errors import InvalidInput

Array = NDArray[Any]

# The position is the code on the wire: append, never reorder.
DTYPES = tuple(
    np.dtype(name)
    for name in (
        *("|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8"),
        *("<f2", "<f4", "<f8", "<c8", "<c16"),
    )
)
_CODES = {dtype.str: code for code, dtype in enumerate(DTYPES)}
_FIXED = struct.Struct("<BB6x")
_ALIGNMENT = 16
"""Elements start at a multiple of this many bytes, so that views of a block are aligned."""


def as_array(value: object) -> Array | None:
    """The array behind a numpy array or a torch tensor, None for anything else.

    A bfloat16 tensor becomes float32, which holds each of its values exactly.
    Raises InvalidInput for a tensor that numpy cannot hold.
    """
    if isinstance(value, np.ndarray):
        return value
    # Looked up, never imported: producers without torch must not pay for it.
    torch: Any = sys.modules.get("torch")
    if not isinstance(value, getattr(torch, "Tensor", ())):
        return None
    tensor: Any = value
    try:
        wide = tensor.float() if tensor.dtype is torch.bfloat16 else tensor
        array: Array = wide.numpy(force=True)
    except (TypeError, RuntimeError) as error:
        raise InvalidInput(
            f"a tensor of {tensor.dtype}, {tensor.layout} cannot become a numpy array: "
            "send tensor.float() or tensor.to_dense()"
        ) from error
    return array


def plain(array: Array) -> Array:
    """The same elements in C order and little-endian; InvalidInput for a dtype that does not travel."""
    if array.dtype.str not in _CODES:
        little = array.dtype.newbyteorder("<")
        if little.str not in _CODES:
            raise InvalidInput(f"dtype {array.dtype} does not travel: {_remedy(array.dtype.kind)}")
        return array.astype(little, order="C")
    return np.asarray(array, order="C")


def _remedy(kind: str) -> str:
    remedies = {
        "O": "send a list, or an array of one numeric dtype",
        "M": "send .astype('int64'), or .astype(str)",
        "m": "send .astype('int64')",
        "V": "send a dict of one array per field",
    }
    return remedies.get(kind, "send .astype('float64')")


def describe(dtype: np.dtype[Any], shape: Sequence[int]) -> bytes:
    """The bytes that `read_description` reads: dtype code, number of dimensions, each as uint64, padding."""
    return _describe(dtype.str, tuple(shape))


@lru_cache
def _describe(dtype: str, shape: tuple[int, ...]) -> bytes:
    text = _FIXED.pack(_CODES[dtype], len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
    return text + b"\0" * (-len(text) % _ALIGNMENT)


def read_description(data: bytes | memoryview) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """The dtype, the shape, and where the elements begin; ValueError if `data` holds no description."""
    if len(data) < _FIXED.size:
        raise ValueError("an array description is cut short")
    code, dimensions = _FIXED.unpack_from(data)
    end = _FIXED.size + 8 * dimensions
    if code >= len(DTYPES) or len(data) < end:
        raise ValueError(f"an array description is damaged: dtype code {code}, {dimensions} dimensions")
    shape = struct.unpack_from(f"<{dimensions}Q", data, _FIXED.size)
    return DTYPES[code], shape, end + -end % _ALIGNMENT


def pack_array(array: Array) -> bytes:
    """One array as bytes; InvalidInput for a dtype that does not travel."""
    elements = plain(array)
    return describe(elements.dtype, elements.shape) + elements.tobytes()


def unpack_array(data: bytes) -> Array:
    """A read-only view of the array that `pack_array` wrote; ValueError for anything else."""
    dtype, shape, start = read_description(data)
    return view(data, start, dtype, shape)


def view(data: bytes | memoryview, start: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """The rest of `data` from `start` as an array; ValueError unless it has exactly this size."""
    count = math.prod(shape)
    if len(data) - start != count * dtype.itemsize:
        raise ValueError(f"{len(data) - start} bytes are not an array of {dtype}, shape {shape}")
    if count == 0:
        return np.zeros(shape, dtype)
    return np.frombuffer(data, dtype, count, start).reshape(shape)


def pack_scalar(scalar: np.generic[Any]) -> bytes:
    """One numpy scalar as bytes; InvalidInput for a dtype that does not travel."""
    element = plain(np.asarray(scalar))
    return bytes((_CODES[element.dtype.str],)) + element.tobytes()


def unpack_scalar(data: bytes) -> np.generic[Any]:
    """The numpy scalar that `pack_scalar` wrote; ValueError for anything else."""
    if not data or data[0] >= len(DTYPES):
        raise ValueError("a numpy scalar is damaged")
    scalar: np.generic[Any] = view(data, 1, DTYPES[data[0]], (1,))[0]
    return scalar
