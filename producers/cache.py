"""Finished jobs never change, so what was read of one is kept for the next question about its rows."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar
from uuid import UUID

Value = TypeVar("Value")


class FinishedCache(Generic[Value]):
    """The most recently used values up to a total size, and the last one whatever its size."""

    def __init__(self, limit: int, *, size: Callable[[Value], int] = lambda value: 1) -> None:
        self._limit = limit
        self._size = size
        self._held = 0
        self._values: OrderedDict[UUID, Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, id: UUID) -> Value | None:
        """The value, if it is still here."""
        with self._lock:
            if id not in self._values:
                return None
            self._values.move_to_end(id)
            return self._values[id]

    def put(self, id: UUID, value: Value) -> None:
        """Keep a value, and drop the least recently used ones that no longer fit."""
        with self._lock:
            if id in self._values:
                return
            self._values[id] = value
            self._held += self._size(value)
            while self._held > self._limit and len(self._values) > 1:
                _, dropped = self._values.popitem(last=False)
                self._held -= self._size(dropped)
