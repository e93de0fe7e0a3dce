"""Large inputs are read from the object store before their jobs' turn, several at once."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

from shunter.storage.job import Claim, ClaimedJob
from shunter.storage.object_store import ObjectStore
from shunter.storage.results import Blob, load_block

READS_AT_ONCE = 8

AHEAD_BYTES = 256 * 1024 * 1024
"""No further read begins while so much has been read and not taken; sizes are known only afterwards."""


class InputsAhead:
    """Reads inputs in the order in which they are expected; every one that is expected is taken or forgotten.

    Every method may be called from any thread.
    """

    def __init__(
        self, store: ObjectStore, *, at_once: int = READS_AT_ONCE, ahead_bytes: int = AHEAD_BYTES
    ) -> None:
        self._store = store
        self._at_once = at_once
        self._ahead_bytes = ahead_bytes
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="read")
        self._lock = threading.Lock()
        self._waiting: dict[Claim, Blob] = {}
        self._begun: dict[Claim, Future[bytes]] = {}
        self._sizes: dict[Claim, int] = {}
        self._reading = 0
        self._held_bytes = 0

    def expect(self, job: ClaimedJob) -> None:
        """A job will need its input."""
        if job.input_key is None:
            return
        with self._lock:
            self._waiting[Claim(job.id, job.epoch)] = _blob(job)
            self._begin()

    def take(self, job: ClaimedJob) -> bytes:
        """A job's block of rows, read by now or here; raises what `load_block` raises."""
        if job.input is not None:
            return job.input
        read = self._release(Claim(job.id, job.epoch))
        return load_block(self._store, _blob(job)) if read is None else read.result()

    def forget(self, claim: Claim) -> None:
        """A job does not need its input any more."""
        self._release(claim)

    def _release(self, claim: Claim) -> Future[bytes] | None:
        with self._lock:
            self._waiting.pop(claim, None)
            self._held_bytes -= self._sizes.pop(claim, 0)
            self._begin()
            return self._begun.pop(claim, None)

    def _begin(self) -> None:
        while self._waiting and self._reading < self._at_once and self._held_bytes < self._ahead_bytes:
            claim = next(iter(self._waiting))
            self._reading += 1
            self._begun[claim] = self._pool.submit(self._read, claim, self._waiting.pop(claim))

    def _read(self, claim: Claim, blob: Blob) -> bytes:
        block = b""
        try:
            block = load_block(self._store, blob)
            return block
        finally:
            with self._lock:
                self._reading -= 1
                if claim in self._begun:
                    self._sizes[claim] = len(block)
                    self._held_bytes += len(block)
                self._begin()


def _blob(job: ClaimedJob) -> Blob:
    return Blob(job.input, job.input_key)
