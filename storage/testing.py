"""Stand-ins for services, for tests; each passes the contract suite of what it stands in for."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from shunter.storage.errors import ObjectNotFound
from shunter.storage.object_keys import ObjectInfo, check_end, check_key, check_prefix, check_range
from shunter.storage.testing_jobs import InMemoryJobRepository

__all__ = ["InMemoryJobRepository", "InMemoryObjectStore"]


class InMemoryObjectStore:
    """An object store that lives as long as the object; not shared with other processes."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, datetime]] = {}
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return "memory:"

    def put(self, key: str, data: bytes) -> None:
        with self._lock:
            self._objects[check_key(key)] = (bytes(data), datetime.now(UTC))

    def get(self, key: str) -> bytes:
        with self._lock:
            found = self._objects.get(check_key(key))
        if found is None:
            raise ObjectNotFound(key)
        return found[0]

    def get_range(self, key: str, start: int, length: int) -> bytes:
        check_range(start, length)
        data = self.get(key)
        check_end(key, len(data), start, length)
        return data[start : start + length]

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            with self._lock:
                self._objects.pop(check_key(key), None)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        with self._lock:
            found = list(self._objects.items())
        for key, (data, modified) in found:
            if key.startswith(prefix):
                yield ObjectInfo(key, len(data), modified)
