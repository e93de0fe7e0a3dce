"""The memory that bodies of requests take together: whoever would exceed it is told to come again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shunter.storage.errors import Overloaded

Take = Callable[[int], None]
"""Counts so many more bytes; Overloaded when there is no room for them."""


class BodyRoom:
    """Counts bytes of bodies under way; only for the event loop's thread, so it needs no lock."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0

    @property
    def taken(self) -> int:
        """Bytes under way."""
        return self._taken

    @contextmanager
    def hold(self) -> Iterator[Take]:
        """What one request takes by the given function is free again when its block ends."""
        mine = 0

        def take(size: int) -> None:
            nonlocal mine
            if self._taken + size > self._limit:
                raise Overloaded(
                    f"the requests under way fill the {self._limit} bytes that this API keeps for bodies: "
                    "try again in a moment, or run more APIs"
                )
            mine += size
            self._taken += size

        try:
            yield take
        finally:
            self._taken -= mine
