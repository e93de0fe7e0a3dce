"""Lengths: which are taken as equal, and which share what is learnt about cost and memory; pure."""

from __future__ import annotations

from functools import lru_cache

FINE_STEPS = 32
"""Lengths up to this stand for themselves; above, an octave has so many: a model sees few shapes, and padding
by it is at most one part in so many."""

SHORTEST_BUCKET = 16
BUCKETS_PER_OCTAVE = 4
PREFIX = "length<="


@lru_cache(maxsize=4096)
def fine_length(length: int) -> int:
    """The length that a row is taken to have: its own, or a little more."""
    return _round_up(length, FINE_STEPS) if length > FINE_STEPS else max(1, length)


def length_bucket(length: int) -> int:
    """The longest length that shares costs and memory ceilings with this one."""
    return _round_up(length, BUCKETS_PER_OCTAVE) if length > SHORTEST_BUCKET else SHORTEST_BUCKET


@lru_cache(maxsize=4096)
def bucket_name(length: int) -> str:
    """The name of a length's bucket."""
    return f"{PREFIX}{length_bucket(length)}"


def length_of(bucket: str) -> int:
    """The longest length of a bucket that is named so, 0 of one that is no bucket of lengths."""
    return int(bucket.removeprefix(PREFIX)) if bucket.startswith(PREFIX) else 0


def _round_up(length: int, steps_per_octave: int) -> int:
    step = max(1, (1 << (length - 1).bit_length() - 1) // steps_per_octave)
    return -(-length // step) * step
