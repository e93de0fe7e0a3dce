"""Producers that go on whatever happens, and write down what they were answered."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable
from uuid import UUID, uuid4

from shunter import AlreadyFinished, Client, Unavailable
from tests.faults.arena import MODEL
from tests.faults.ledger import SECRET, Entry, Ledger

MAX_ROWS = 8
CANCELS = 0.03
"""The share of jobs that are cancelled right after they were submitted."""

PAUSE_S = 0.2
"""Between a refusal and the next try under the same key."""


class Producer:
    """A thread that submits jobs of a few rows until it is stopped; each is tried until it is answered."""

    def __init__(
        self, connect: Callable[[], Client], ledger: Ledger, *, seed: int, pace_s: float = 0.0
    ) -> None:
        self._connect = connect
        self._ledger = ledger
        self._rng = random.Random(seed)
        self._pace_s = pace_s
        self._numbers = itertools.count()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="producer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the submission under way has been answered."""
        self._stopping.set()

    def join(self) -> None:
        """Wait for that."""
        self._thread.join(60)
        assert not self._thread.is_alive(), "a producer was never answered"

    def _run(self) -> None:
        with self._connect() as client:
            while not self._stopping.wait(self._pace_s):
                self._submit(client)

    def _submit(self, client: Client) -> None:
        numbers = tuple(itertools.islice(self._numbers, self._rng.randint(1, MAX_ROWS)))
        key = uuid4().hex
        while True:
            try:
                job = client.submit(MODEL, list(numbers), idempotency_key=key, metadata={"note": SECRET})
            except Unavailable as error:
                self._ledger.refused(error.code)
                self._stopping.wait(PAUSE_S)
            else:
                break
        cancelled = self._rng.random() < CANCELS and self._cancel(client, job.id)
        self._ledger.note(Entry(key, numbers, UUID(job.id), cancelled))

    def _cancel(self, client: Client, id: str) -> bool:
        try:
            client.job(id).cancel()
        except (AlreadyFinished, Unavailable):
            return False
        return True
