"""Submitting alone, a call for each row, without a worker: Shunter's submit, its limit, Celery's delay."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from benchmarks.contestants.shunter import as_lists
from benchmarks.figures import Run
from benchmarks.rig import Rig
from shunter.storage.database import Database
from shunter.storage.job_repository import JobRepository

Call = Callable[[Any], object]


@dataclass
class Submitting:
    """One call for each row, from so many threads; the queue is emptied after the clock has stopped."""

    name: str
    settings: str
    threads: int
    connect: Callable[[Rig], Call]
    first: int = 500
    step: int = 16
    _bench: Rig = field(init=False, repr=False)
    _call: Call = field(init=False, repr=False)

    def prepare(self, bench: Rig) -> None:
        self._bench = bench
        self._call = self.connect(bench)

    def run(self, items: int) -> Run:
        rows = as_lists("mlp")(items)
        began, cpu = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(self.threads) as pool:
            for _ in pool.map(self._all, [rows[start :: self.threads] for start in range(self.threads)]):
                pass
        run = Run(items, time.perf_counter() - began, time.process_time() - cpu)
        self._bench.redis.flushdb()
        return run

    def _all(self, rows: Sequence[Any]) -> None:
        for row in rows:
            self._call(row)


def shunter(threads: int) -> Submitting:
    """Committed in Postgres when each call returns."""

    def connect(bench: Rig) -> Call:
        client = bench.client()
        return lambda row: client.submit("mlp", [row])

    return Submitting(f"Shunter submit, {_times(threads)}", "in Postgres at return", threads, connect)


def postgres(threads: int) -> Submitting:
    """The limit of calls that share no commit: nothing is written, and is on disk at return."""

    def connect(bench: Rig) -> Call:
        repository = JobRepository(Database(bench.settings.database_url, pool_size=threads))

        def sync(row: object) -> None:
            with repository.storing() as storing:
                storing.sync()

        return sync

    settings = "pg_logical_emit_message, whose commit waits for the disk"
    return Submitting(f"empty transaction, {_times(threads)}", settings, threads, connect)


def celery(threads: int) -> Submitting:
    """In the memory of Redis when each call returns."""

    def connect(bench: Rig) -> Call:
        from celery import Celery

        url = bench.settings.redis_url
        app = Celery("submitting", broker=url, backend=url, set_as_current=False)

        @app.task(name="one")
        def one(row: object) -> None:
            """Never run: there is no worker."""

        return one.delay

    settings = "Celery 5.7 as it comes, Redis as broker and result backend; in Redis' memory at return"
    return Submitting(f"Celery delay, {_times(threads)}", settings, threads, connect)


def _times(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"
