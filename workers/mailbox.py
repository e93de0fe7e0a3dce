"""Mail for one reader at a time: whoever brings urgent mail to an idle reader reads it out at once, itself.

To wake a thread takes longer than what a hub has to decide about a lone job. While somebody reads, mail
waits, and what has come together is read together.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any


class Mailbox:
    """Mail of an `urgent` type is read by the thread that brings it, other mail by the one that waits for it.

    `read` takes what there is, and says whether that leaves something to the thread that waits.
    """

    def __init__(self, read: Callable[[], bool], *, urgent: Collection[type]) -> None:
        self._read = read
        self._urgent = frozenset(urgent)
        self._mails: deque[Any] = deque()
        self._reading = threading.Lock()
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._rung = False
        self._closed = False

    def put(self, mail: Any) -> None:
        """Bring mail; from any thread."""
        self._mails.append(mail)
        if type(mail) not in self._urgent:
            self._ring()
        elif self._reading.acquire(blocking=False):
            left = True
            try:
                left = not self._closed and self._read()
            finally:
                self._end(left=left)

    def take(self) -> Any | None:
        """The next mail, None if there is none; only for whoever reads."""
        return self._mails.popleft() if self._mails else None

    @contextmanager
    def turn(self, timeout_s: float) -> Iterator[None]:
        """Wait until something is left to the one thread that waits, or the time is up; then it may read."""
        with suppress(Empty):
            self._bell.get(timeout=timeout_s)
        self._rung = False
        self._reading.acquire()
        try:
            yield
        finally:
            self._end(left=False)

    def close(self) -> None:
        """Return once nobody reads, and nobody will."""
        with self._reading:
            self._closed = True

    def _end(self, *, left: bool) -> None:
        self._reading.release()
        # Whoever brought mail until now saw somebody reading, and went away.
        if left or self._mails:
            self._ring()

    def _ring(self) -> None:
        if not self._rung:
            self._rung = True
            self._bell.put(None)
