"""Stock Celery and celery-batches, in the ways that people use them with Postgres."""

from __future__ import annotations

import base64
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contestants.shunter import DRAIN_WITHIN_S, as_lists
from benchmarks.figures import Run
from benchmarks.models import sample_rows
from benchmarks.rig import Process, Rig, peer_venv, wait_for
from benchmarks.usage import used_by

PACKED = 256

Send = Callable[[Any, Sequence[Any]], str]
"""Sends all rows through a Celery app, and returns the id of the last one's result."""

KNOWN = "SELECT 1 FROM results WHERE id = %s::uuid"
COUNT = "SELECT count(*) FROM results"


@dataclass
class Celery:
    """One worker that writes to the table `results`; it inserts each row once, when it is known."""

    name: str
    settings: str
    queue: str
    send: Send
    rows: Callable[[int], Sequence[Any]]
    python: Callable[[], Path] = lambda: Path(sys.executable)
    prefetch: int = 16
    first: int = 256
    step: int = 1
    model: str = "mlp"
    pool: str = "solo"
    concurrency: int = 1
    _bench: Rig = field(init=False, repr=False)
    _app: Any = field(init=False, repr=False)
    _worker: Process = field(init=False, repr=False)

    def prepare(self, bench: Rig) -> None:
        self._bench = bench
        self._app = sender(bench)
        self._worker = bench.start_celery(
            self.queue,
            self.python(),
            "-Q",
            self.queue,
            pool=self.pool,
            concurrency=self.concurrency,
            BENCH_MODEL=self.model,
            BENCH_PREFETCH=str(self.prefetch),
        )

    def run(self, items: int) -> Run:
        rows = self.rows(items)
        with used_by(self._worker.pid) as usage:
            began = time.perf_counter()
            last = self.send(self._app, rows)
            submitted_s = time.perf_counter() - began
            self._wait(last, items)
            seconds = time.perf_counter() - began
        return Run(items, seconds, usage.cpu_s, usage.rss_bytes, {"submitted_s": submitted_s})

    def _wait(self, last: str, items: int) -> None:
        ask, within_s = self._bench.value, DRAIN_WITHIN_S
        wait_for(lambda: self._bench.ask(KNOWN, last), "the last result is there", within_s=within_s)
        wait_for(lambda: ask(COUNT) >= items, "every result is there", within_s=within_s)


def sender(bench: Rig) -> Any:
    """An app of its own for each rig: one keeps its connections to the Redis that it has met first."""
    from celery import Celery as App

    return App("sender", broker=bench.settings.redis_url, set_as_current=False)


def one_by_one(task: str, queue: str) -> Send:
    """A message for each row."""

    def send(app: Any, rows: Sequence[Any]) -> str:
        for row in rows:
            sent = app.send_task(task, (row,), queue=queue)
        return str(sent.id)

    return send


def by_hand(queue: str) -> Send:
    """256 rows to a message, as base64 of float32, and no repr of them for logs."""

    def send(app: Any, rows: Sequence[Any]) -> str:
        for start in range(0, len(rows), PACKED):
            part = rows[start : start + PACKED]
            ids = [str(uuid.uuid4()) for _ in part]
            floats = base64.b64encode(np.stack(part).tobytes()).decode()
            app.send_task("packed", (ids, floats), queue=queue, argsrepr="(...)", kwargsrepr="{}")
        return ids[-1]

    return send


def batches() -> Celery:
    """celery-batches as its documentation shows it."""
    return Celery(
        name="celery-batches 0.11",
        settings="Celery 5.6, solo, 256 / 0.1 s, prefetch 512, results of a batch by one COPY",
        queue="batches",
        send=one_by_one("mlp_batch", "batches"),
        rows=as_lists("mlp"),
        python=peer_venv,
        prefetch=512,
        first=1024,
        step=256,  # full batches: no rest that waits for the interval
    )


def stock(pool: str = "solo", concurrency: int = 1) -> Celery:
    """What nearly everyone writes, with one of Celery's pools."""
    queue = "stock" if pool == "solo" else f"stock-{pool}"
    workers = pool if concurrency == 1 else f"{concurrency} {pool}"
    return Celery(
        name="Celery, a task per item" if pool == "solo" else f"Celery, {workers}",
        settings=f"Celery 5.7, {workers}, acks late, prefetch 16, each result by one INSERT",
        queue=queue,
        pool=pool,
        concurrency=concurrency,
        send=one_by_one("one", queue),
        rows=as_lists("mlp"),
        first=256 if concurrency == 1 else 1024,  # each process of a pool loads its model at its first task
    )


def packed() -> Celery:
    """What an expert writes."""
    return Celery(
        name="Celery, 256 packed by hand",
        settings="Celery 5.7, solo, acks late, base64 of float32, argsrepr set, one COPY a message",
        queue="packed",
        send=by_hand("packed"),
        rows=lambda count: sample_rows("mlp", count),
        prefetch=4,
        first=PACKED * 16,
        step=PACKED,
    )
