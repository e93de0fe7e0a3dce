"""How many rows of a kind fit in a device's memory, as a message and as it is stored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Ceiling(NamedTuple):
    """Batches of a bucket fit only up to `rows` rows, `tokens` of them in all, padding included.

    `device` says what the memory is, not which machine it is in; `tokens` is 0 for a model that counts none.
    """

    device: str
    bucket: str
    rows: int
    tokens: int = 0


class RaisedCeiling(NamedTuple):
    """A ceiling that was too low, and the higher one in its place: a batch of that size fitted.

    `was` holds for the bucket of `now`. Where tokens are counted, the ceilings of all buckets are one.
    """

    was: Ceiling
    now: Ceiling

    def disproves(self, ceiling: Ceiling) -> bool:
        """Whether a known ceiling gives way; a lower one than `was` is somebody's later find, and stays."""
        if ceiling.device != self.now.device:
            return False
        if self.now.tokens:
            return self.was.tokens <= ceiling.tokens < self.now.tokens
        return ceiling.bucket == self.now.bucket and ceiling.rows == self.was.rows

    def applied_to(self, known: Iterable[Ceiling]) -> tuple[Ceiling, ...]:
        """What is known afterwards."""
        return (*(ceiling for ceiling in known if not self.disproves(ceiling)), self.now)
