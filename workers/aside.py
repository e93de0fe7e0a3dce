"""Work for another thread that whoever asks for it does itself, if it is little: to wake one takes longer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Request = TypeVar("Request")


class Aside(Generic[Request]):
    """Keeps what a thread has asked for until it is at leisure: one request, and only within `kept_for`."""

    def __init__(self) -> None:
        self._here = threading.local()

    def keep(self, request: Request) -> bool:
        """Whether it is kept; if not, it is for the other thread."""
        if not getattr(self._here, "open", False):
            return False
        self._here.open, self._here.kept = False, request
        return True

    @property
    def keeps(self) -> bool:
        """Whether this thread has something to do yet."""
        return getattr(self._here, "kept", None) is not None

    @contextmanager
    def kept_for(self, do: Callable[[Request], None]) -> Iterator[None]:
        """What this thread keeps within the block is done at its end."""
        self._here.open, self._here.kept = True, None
        yield
        self._here.open = False
        request, self._here.kept = self._here.kept, None
        if request is not None:
            do(request)
