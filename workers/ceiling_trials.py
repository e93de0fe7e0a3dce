"""When a batch larger than a memory ceiling may be tried, because the ceiling may be too low; pure.

Halving overshoots: what is left is at least half of what fits, and another program may have held memory
when a ceiling was found. A trial is one batch, a quarter larger than the ceiling. Each that fits raises the
ceiling; after one that does not, the next is long in coming.
"""

from __future__ import annotations

AFTER_BATCHES = 64
"""Batches as large as the ceiling allows that fitted, before a larger one is tried."""

AFTER_FAILURE = 2048
"""So many after a trial that did not fit: it costs about as much as a batch."""

STEP = 4
"""A trial is larger by one part in so many, and by a row at least."""


class CeilingTrials:
    """How far off the next trial is, for each kind of batch that has a ceiling of its own."""

    def __init__(self) -> None:
        self._left: dict[str, int] = {}

    def rows(self, kind: str, ceiling: int) -> int:
        """How many rows the next batch may have, where as many as the ceiling are known to fit."""
        return ceiling if self._left.get(kind, AFTER_BATCHES) else ceiling + max(1, ceiling // STEP)

    def fitted(self, kind: str) -> None:
        """A batch as large as the ceiling allows went through."""
        self._left[kind] = max(0, self._left.get(kind, AFTER_BATCHES) - 1)

    def began(self, kind: str) -> None:
        """A trial was closed. Whatever becomes of it, the next one has to be earned anew."""
        self._left[kind] = AFTER_BATCHES

    def failed(self, kind: str) -> None:
        """A trial did not fit."""
        self._left[kind] = AFTER_FAILURE
