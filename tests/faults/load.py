"""Producers that go on whatever happens, and write down what they were answered."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable
from typing import TypeVar
from uuid import UUID, uuid4

from shunter import AlreadyFinished, Client, Unavailable
from tests.faults.arena import MODEL
from tests.faults.ledger import SECRET, Entry, Ledger

Answer = TypeVar("Answer")

MAX_ROWS = 8
MAX_ROWS_IN_PAGE = 2
CANCELS = 0.03
"""The share of jobs that are cancelled right after they were submitted."""

PAUSE_S = 0.2
"""Between a refusal and the next try under the same key."""


class Producer:
    """A thread that submits jobs of a few rows until it is stopped; each is tried until it is answered.

    With `page` above 1 it submits so many jobs at once, all or none, and without keys.
    """

    def __init__(
        self, connect: Callable[[], Client], ledger: Ledger, *, seed: int, pace_s: float = 0.0, page: int = 1
    ) -> None:
        self._connect = connect
        self._page = page
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
                if self._page > 1:
                    self._submit_page(client)
                else:
                    self._submit(client)

    def _submit(self, client: Client) -> None:
        numbers, key = self._some(MAX_ROWS), uuid4().hex
        job = self._until_answered(
            lambda: client.submit(MODEL, list(numbers), idempotency_key=key, metadata={"note": SECRET})
        )
        cancelled = self._rng.random() < CANCELS and self._cancel(client, job.id)
        self._ledger.note(Entry(key, numbers, UUID(job.id), cancelled))

    def _submit_page(self, client: Client) -> None:
        page = [self._some(MAX_ROWS_IN_PAGE) for _ in range(self._page)]
        jobs = self._until_answered(
            lambda: client.submit_jobs(MODEL, [list(numbers) for numbers in page], metadata={"note": SECRET})
        )
        for job, numbers in zip(jobs, page, strict=True):
            self._ledger.note(Entry(None, numbers, UUID(job.id)))

    def _some(self, at_most: int) -> tuple[int, ...]:
        return tuple(itertools.islice(self._numbers, self._rng.randint(1, at_most)))

    def _until_answered(self, submit: Callable[[], Answer]) -> Answer:
        while True:
            try:
                return submit()
            except Unavailable as error:
                self._ledger.refused(error.code)
                self._stopping.wait(PAUSE_S)

    def _cancel(self, client: Client, id: str) -> bool:
        try:
            client.job(id).cancel()
        except (AlreadyFinished, Unavailable):
            return False
        return True
