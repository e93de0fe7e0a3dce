"""How soon a lone job is noticed, and how long an interactive one waits behind bulk work."""

from __future__ import annotations

import random
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.report import Report, percentile
from benchmarks.rig import NOOP, TIMED, Rig, rig, say, wait_for
from shunter import Client
from shunter.storage.job import Priority

POLL_S = 0.001
BATCH_S = 0.02
EARLY_S = 10.0
"""What the first jobs meet, before the worker has learnt how many rows an envelope carries, is told apart."""

WAITS = """
WITH lone AS (
    SELECT *, enqueued_at > min(enqueued_at) OVER () + make_interval(secs => %s) AS late
    FROM jobs WHERE priority = 0
)
SELECT extract(epoch FROM {span})::float8 FROM lone WHERE late = %s ORDER BY enqueued_at
"""

BULK_ITEMS = 400_000


def wake_up(*, jobs: int = 300) -> Report:
    """A lone one-row job on an idle fleet: from the call that submits it until its result can be read."""
    report = Report("wake-up", ["way", "jobs", "p50 ms", "p99 ms", "max ms", "p50 / stock Celery's"])
    delays: dict[str, list[float]] = {}
    with rig({"noop": NOOP}) as bench, Client(settings=bench.settings) as client:
        bench.start_worker()
        bench.start_celery("stock", Path(sys.executable), "-Q", "stock")
        ways = _lone_ways(bench, client)
        source = random.Random(1)
        for _ in range(10):
            for way in ways.values():
                way()
        for number in range(jobs):
            for name, way in ways.items():
                if name == SENT_BY_CELERY and number % 2:
                    continue
                time.sleep(source.uniform(0.005, 0.06))
                began = time.perf_counter()
                way()
                delays.setdefault(name, []).append(1000 * (time.perf_counter() - began))
            if number % 50 == 49:
                say(f"{number + 1} of {jobs} rounds")
        stages = _stages(bench)
    stock = percentile(delays[STOCK], 0.5)
    for name, values in delays.items():
        p50, p99 = percentile(values, 0.5), percentile(values, 0.99)
        report.row(name, len(values), p50, p99, max(values), p50 / stock)
    report.raw = {**delays, "stages": stages}
    report.notes.append(
        "Of a lone Shunter job, median ms: " + ", ".join(f"{k} {v:.1f}" for k, v in stages.items())
    )
    report.notes.append(
        "Submitting is included. `select` asks Postgres every ms, `outputs()` waits as users do."
    )
    return report


STOCK = "stock Celery, a task that inserts its result; select"
SENT_BY_CELERY = "Shunter, sent by plain Celery; select"


def _lone_ways(bench: Rig, client: Client) -> Mapping[str, Callable[[], object]]:
    from benchmarks.celery_peer import app, stored, tracked

    app.conf.broker_url = bench.settings.redis_url

    def until(statement: str, id: str) -> None:
        while not bench.ask(statement, id):
            time.sleep(POLL_S)

    done = "SELECT 1 FROM jobs WHERE id = %s::uuid AND finished_at IS NOT NULL"

    def by_celery() -> None:
        id = str(uuid.uuid4())
        app.send_task("shunter.submit", kwargs={"model": "noop", "rows": [1]}, queue="infer.noop", task_id=id)
        until(done, id)

    def stock() -> None:
        until("SELECT 1 FROM results WHERE id = %s::uuid", stored.delay(1).id)

    def safe() -> None:
        id = str(uuid.uuid4())
        bench.ask("INSERT INTO results (id) VALUES (%s::uuid)", id)
        tracked.apply_async((1,), task_id=id)
        until("SELECT 1 FROM results WHERE id = %s::uuid AND result IS NOT NULL", id)

    return {
        "Shunter, client.submit(...).outputs()": lambda: client.submit("noop", [1]).outputs(),
        "Shunter, client.submit; select": lambda: until(done, str(client.submit("noop", [1]).id)),
        STOCK: stock,
        "stock Celery, its row inserted first, started, done; select": safe,
        SENT_BY_CELERY: by_celery,
    }


def _stages(bench: Rig) -> dict[str, float]:
    """Where the time of a lone job goes between the transactions that tell of it."""
    spans = {
        "stored -> claimed": "started_at - enqueued_at",
        "claimed -> in the model": "forward_at - started_at",
        "in the model -> settled": "finished_at - forward_at",
    }
    median = "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM {}))::float8 FROM jobs"
    where = " WHERE enqueued_at < started_at"  # an adopted job begins as claimed
    return {name: 1000 * float(bench.value(median.format(span) + where)) for name, span in spans.items()}


def interactive(*, rate: float = 20.0, seconds: float = 22.0) -> Report:
    """Interactive one-row jobs, Poisson, while bulk rows wait; the model takes 20 ms per batch of 256."""
    columns = ["wait", "p50", "p90", "p99", "max"]
    report = Report("interactive", columns)
    with (
        rig({"timed": TIMED}, "[batching]\nmax_rows = 256\n") as bench,
        Client(settings=bench.settings) as client,
    ):
        bench.start_worker()
        client.submit("timed", [1]).outputs()
        say(f"submitting {BULK_ITEMS:,} bulk items")
        client.submit_many("timed", list(range(BULK_ITEMS)), priority="bulk")
        time.sleep(3)
        before, began = _bulk_rows(bench), time.perf_counter()
        ids = _poisson(client, rate=rate, seconds=seconds)
        bulk_s = (_bulk_rows(bench) - before) / (time.perf_counter() - began)
        wait_for(lambda: _unfinished(bench) == 0, "every interactive job has ended")
        _tell_waits(report, bench)
        queued = bench.value("SELECT coalesce(sum(rows), 0) FROM jobs WHERE state = 'queued'")
        _tell_batches(report, bench)
    full = 256 / BATCH_S
    report.notes.append(
        f"In batch times of {1000 * BATCH_S:.0f} ms. Bulk meanwhile: {bulk_s:,.0f} rows/s, "
        f"{bulk_s / full:.0%} of what full batches back to back would do; {int(queued):,} bulk rows were "
        f"still queued at the end; {len(ids)} interactive jobs."
    )
    report.raw["bulk_rows_per_s"] = bulk_s
    return report


def _poisson(client: Client, *, rate: float, seconds: float) -> list[str]:
    source, ids = random.Random(1), []
    end = time.perf_counter() + seconds
    due = time.perf_counter()
    while (due := due + source.expovariate(rate)) < end:
        time.sleep(max(0.0, due - time.perf_counter()))
        ids.append(str(client.submit("timed", [1], priority="interactive").id))
    return ids


def _bulk_rows(bench: Rig) -> int:
    where = "priority = %s AND finished_at IS NOT NULL"
    return int(bench.value(f"SELECT coalesce(sum(rows), 0) FROM jobs WHERE {where}", int(Priority.BULK)))


def _unfinished(bench: Rig) -> int:
    return int(bench.value("SELECT count(*) FROM jobs WHERE rows = 1 AND finished_at IS NULL"))


def _tell_waits(report: Report, bench: Rig) -> None:
    parts = {
        "until claimed": "started_at - enqueued_at",
        "from claimed until forward": "forward_at - started_at",
        "until forward (queueing)": "forward_at - enqueued_at",
        "until settled": "finished_at - enqueued_at",
    }
    for when, late in ((f"first {EARLY_S:.0f} s", False), ("afterwards", True)):
        for name, span in parts.items():
            found = bench.ask(WAITS.format(span=span), EARLY_S, late)
            times = [row[0] / BATCH_S for row in found]
            shares = [percentile(times, share) for share in (0.5, 0.9, 0.99, 1.0)]
            report.row(f"{name}, {when} ({len(times)} jobs)", *shares)
            report.raw[f"{name}, {when}"] = times
            say(f"{name}, {when}: p50 {shares[0]:.1f}, p99 {shares[2]:.1f} batch times")


def _tell_batches(report: Report, bench: Rig) -> None:
    time.sleep(2.5)  # the heartbeat brings the counters
    stats: Any = bench.value("SELECT stats FROM workers ORDER BY started_at LIMIT 1")
    report.raw["stats"] = stats
    report.notes.append(f"Batches: {stats}")
