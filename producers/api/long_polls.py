"""Requests that wait for a job: none holds a thread or a connection to Postgres meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from uuid import UUID

from shunter.producers.watcher import Watcher


class LongPolls:
    """The requests of one event loop that wait, over the one watcher of the process."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._waiting: set[asyncio.Future[None]] = set()
        self._released = False

    def __len__(self) -> int:
        return len(self._waiting)

    async def any_ended(self, ids: Collection[UUID], timeout_s: float) -> None:
        """Return when one of these jobs has ended, or the time is up, or the server stops."""
        loop = asyncio.get_running_loop()
        heard: asyncio.Future[None] = loop.create_future()

        def tell(id: UUID, error: Exception | None) -> None:
            # The answer reads the job again, and so meets the same error.
            loop.call_soon_threadsafe(_settle, heard)

        self._waiting.add(heard)
        if self._released:
            _settle(heard)
        self._watcher.add(ids, tell)
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(heard, timeout_s)
        finally:
            self._waiting.discard(heard)
            self._watcher.remove(ids, tell)

    def release(self) -> None:
        """Let every request answer now; the server stops."""
        self._released = True
        for heard in list(self._waiting):
            heard.get_loop().call_soon_threadsafe(_settle, heard)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
