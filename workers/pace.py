"""How fast a worker gets through with what it has in hand; pure."""

from __future__ import annotations

LOOK_S = 0.25
"""Over so many busy seconds rows are counted; what leaves comes in bunches."""

SMOOTHING = 0.5
"""Weight of the latest count in the measured pace."""


class Pace:
    """The rows of one model version that leave a worker's hands in a second in which it has some.

    The model alone may be many times as fast: a tiny one waits for the way to it and from it, and what a
    worker claims beyond its own pace keeps it from settling what it has run.
    """

    def __init__(self) -> None:
        self.rows_per_s = 0.0
        self._busy_since: float | None = None
        self._busy_s = 0.0
        self._gone = 0

    def look(self, gone: int, *, busy: bool, now: float) -> None:
        """`gone` rows have left since the worker began, and it is `busy` with others or not. Say it often."""
        if self._busy_since is not None:
            self._busy_s += now - self._busy_since
        self._busy_since = now if busy else None
        if self._busy_s >= LOOK_S:
            measured = (gone - self._gone) / self._busy_s
            self.rows_per_s += (measured - self.rows_per_s) * (SMOOTHING if self.rows_per_s else 1.0)
            self._busy_s, self._gone = 0.0, gone
