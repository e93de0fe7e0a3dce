"""How many bytes a preprocessed row takes, without importing what it is made of; pure."""

from __future__ import annotations

from typing import Any

NUMBER_BYTES = 8
"""Of a number, or of anything that does not say how large it is: what it takes in an array, at most."""


def bytes_in(value: Any) -> int:
    """Arrays, tensors, bytes and text, also inside lists, tuples and dicts; at least 1."""
    if isinstance(value, str | bytes | bytearray):
        return max(1, len(value))
    if isinstance(value, dict):
        return max(1, sum(map(bytes_in, value.values())))
    if isinstance(value, list | tuple):
        return max(1, sum(map(bytes_in, value)))
    return max(1, int(getattr(value, "nbytes", NUMBER_BYTES)))
