"""What every object store agrees on: keys, ranges, and what is said of a stored object."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from shunter.storage.errors import InvalidInput, ObjectStoreUnavailable

MAX_KEY_CHARS = 800
"""S3 takes 1024 bytes, and the bucket's prefix needs some of them."""

# No segment begins with a dot: so no `..`, and room for names of our own.
_SEGMENT = r"[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,199}"
_KEY = re.compile(rf"{_SEGMENT}(/{_SEGMENT})*")
_PREFIX = re.compile(rf"({_SEGMENT}/)*({_SEGMENT})?")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One stored object: its key, its size in bytes, and when it was last written (UTC)."""

    key: str
    size: int
    modified: datetime


def is_key(key: str) -> bool:
    """Whether stores take this key."""
    return len(key) <= MAX_KEY_CHARS and _KEY.fullmatch(key) is not None


def check_key(key: str) -> str:
    """The key itself; InvalidInput if no store would take it."""
    if not is_key(key):
        raise InvalidInput(
            f"object key {key!r:.200}: use segments of [A-Za-z0-9._=-] joined by '/', none beginning with "
            f"a dot, each at most 200 and together at most {MAX_KEY_CHARS} characters"
        )
    return key


def check_prefix(prefix: str) -> str:
    """The prefix itself; InvalidInput if no key could begin with it."""
    if len(prefix) > MAX_KEY_CHARS or not _PREFIX.fullmatch(prefix):
        raise InvalidInput(f"object prefix {prefix!r:.200}: no key begins so; give the beginning of one")
    return prefix


def check_range(start: int, length: int) -> None:
    """InvalidInput unless this is a range of at least one byte."""
    if start < 0 or length < 1:
        raise InvalidInput(
            f"a range of {length} bytes from {start}: start at 0 or later, with 1 byte or more"
        )


def check_end(key: str, size: int, start: int, length: int) -> None:
    """InvalidInput unless an object of `size` bytes has this range."""
    if start + length > size:
        raise InvalidInput(
            f"object {key!r} has {size} bytes: {length} bytes from {start} go beyond its end; ask for fewer"
        )


def check_length(key: str, data: bytes, expected: int) -> bytes:
    """The data itself; ObjectStoreUnavailable if a part is missing, which another read may bring."""
    if len(data) != expected:
        raise ObjectStoreUnavailable(f"object {key!r}: {len(data)} bytes came instead of {expected}")
    return data
