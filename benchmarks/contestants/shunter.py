"""Shunter itself: items by `submit_many`, jobs by `submit_jobs` and `submit`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from benchmarks.figures import Run
from benchmarks.models import sample_rows
from benchmarks.rig import POLL_S, Rig, wait_for
from benchmarks.usage import used_by
from shunter import Client

BURST = 16_384
"""Items given to one call of submit_many: it commits them together, and the worker runs them meanwhile."""

JOBS_BURST = 4096
"""Jobs given to one call of submit_jobs."""

ENDED = "SELECT finished_at IS NOT NULL FROM jobs WHERE id = %s::uuid"
LEFT = "SELECT count(*) FROM jobs WHERE finished_at IS NULL"
SUCCEEDED = "SELECT coalesce(sum(rows_succeeded), 0) FROM jobs"
DRAIN_WITHIN_S = 300.0
SELDOM_S = 0.25

Submit = Callable[[Client, Sequence[Any]], UUID]
"""Submits all rows, and returns the id of the job that was made last."""


def wait_until_settled(bench: Rig, last: UUID, rows: int, *, poll_s: float = POLL_S) -> None:
    """Return once every row has succeeded, as Postgres says; the last job first, which is cheap to ask."""

    def wait(is_true: Callable[[], object], what: str) -> None:
        wait_for(is_true, f"{what} job has ended", within_s=DRAIN_WITHIN_S, poll_s=poll_s)

    wait(lambda: bench.value(ENDED, str(last)), "the last")
    wait(lambda: not bench.value(LEFT), "every")
    succeeded = int(bench.value(SUCCEEDED))
    if succeeded != rows:
        raise RuntimeError(f"{succeeded} of {rows} rows have succeeded")


@dataclass
class Shunter:
    """One worker, one model; submits in the way that it is given."""

    name: str
    settings: str
    model: str
    submit: Submit
    rows: Callable[[int], Sequence[Any]] | None = None
    first: int = 4096
    step: int = 256
    aside: bool = False
    """Whether to ask seldom if it is done, and take the moment from Postgres: asking takes cores, too."""
    _bench: Rig = field(init=False, repr=False)
    _client: Client = field(init=False, repr=False)

    def prepare(self, bench: Rig) -> None:
        self._bench = bench
        self._client = bench.client()
        bench.the_worker()

    def run(self, items: int) -> Run:
        bench = self._bench
        rows = self.rows(items) if self.rows else sample_rows(self.model, items)
        with used_by(bench.the_worker().pid) as usage:
            began_at, began = bench.value("SELECT clock_timestamp()"), time.perf_counter()
            last = self.submit(self._client, rows)
            submitted_s = time.perf_counter() - began
            wait_until_settled(bench, last, items, poll_s=SELDOM_S if self.aside else POLL_S)
            seconds = time.perf_counter() - began
        if self.aside:
            seconds = (bench.value("SELECT max(finished_at) FROM jobs") - began_at).total_seconds()
        return Run(items, seconds, usage.cpu_s, usage.rss_bytes, {"submitted_s": submitted_s})


def many(model: str, burst: int = BURST) -> Submit:
    """By `submit_many`, in bursts."""

    def submit(client: Client, rows: Sequence[Any]) -> UUID:
        for start in range(0, len(rows), burst):
            items = client.submit_many(model, rows[start : start + burst])
        return items[-1].job_id

    return submit


def many_jobs(model: str, burst: int = JOBS_BURST) -> Submit:
    """By `submit_jobs`, a job for each row, in bursts that are one commit each."""

    def submit(client: Client, rows: Sequence[Any]) -> UUID:
        for start in range(0, len(rows), burst):
            jobs = client.submit_jobs(model, [[row] for row in rows[start : start + burst]])
        return jobs[-1].job_id

    return submit


def jobs_of(model: str, size: int) -> Submit:
    """By `submit`, one job after the other, of so many rows each."""

    def submit(client: Client, rows: Sequence[Any]) -> UUID:
        for start in range(0, len(rows), size):
            job = client.submit(model, rows[start : start + size])
        return job.job_id

    return submit


def in_threads(model: str, threads: int) -> Submit:
    """By `submit`, a job for each row, in threads that share their commits."""

    def submit(client: Client, rows: Sequence[Any]) -> UUID:
        def some(part: Sequence[Any]) -> UUID:
            for row in part:
                job = client.submit(model, [row])
            return job.job_id

        parts = [rows[start::threads] for start in range(min(threads, len(rows)))]
        with ThreadPoolExecutor(threads) as pool:
            return max(pool.map(some, parts))

    return submit


def as_lists(model: str) -> Callable[[int], Sequence[Any]]:
    """The rows as plain lists of floats, what JSON carries; made before the clock runs."""

    def rows(count: int) -> Sequence[Any]:
        distinct = [row.tolist() for row in sample_rows(model, min(count, 1000))]
        return [distinct[index % len(distinct)] for index in range(count)]

    return rows
