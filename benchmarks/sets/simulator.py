"""Does the simulator know what the fleet does? Traces of a real fleet, run again by the pure batcher.

What arrives, and when, is read from Postgres as it was recorded; what a batch costs, from the report of the
same run; what a job's way to the model takes, from jobs that come one at a time, and the way back is taken to
be as long. Then what was simulated stands beside what the fleet did.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from benchmarks.contest import Plan
from benchmarks.models import mixed_rows
from benchmarks.progress import Progress
from benchmarks.report import Report, percentile, spread
from benchmarks.rig import MODELS, Rig, rig, wait_for
from shunter import Client
from shunter.storage.job import Priority
from shunter.storage.model_registry import read_config
from shunter.workers.holdings import credit_rows
from shunter.workers.simulation import Arrival, Simulation
from shunter.workers.simulator import fitted, simulate
from shunter.workers.sizing import Sizing

MODEL = "encoder"
JOB_ROWS = 8
SHARE = 0.6
"""Of the drained rate, that the random arrivals bring."""
SECONDS, QUICK_SECONDS = 10.0, 5.0
RATE_FIRST = 100.0
SENDERS = 4
LONE_JOBS = 20
REPORTED_AFTER_S = 2.0
"""A worker tells its costs with its heartbeat."""

RECORDED = """
SELECT id, extract(epoch FROM created_at)::float8, rows, priority, extract(epoch FROM finished_at)::float8
FROM jobs ORDER BY created_at, id
"""
WAY = """
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM forward_at - created_at)) FROM jobs
"""
TOLD = "SELECT stats FROM workers WHERE ended_at IS NULL"


@dataclass(frozen=True)
class Recorded:
    """What came to a fleet, and what it made of it."""

    trace: list[Arrival]
    latencies: list[float]
    rate: float
    told: dict[str, Any]
    """What the worker said of its batches afterwards, as `storage.batch_report` describes it."""

    def document(self) -> dict[str, Any]:
        """All of it, to be run again later; jobs are [seconds, latency, lengths of their rows]."""
        jobs = [
            [arrival.at_s, latency, list(arrival.lengths)]
            for arrival, latency in zip(self.trace, self.latencies, strict=True)
        ]
        return {"rate": self.rate, "told": self.told, "jobs": jobs}


def measure(plan: Plan, progress: Progress) -> Sequence[Report]:
    """A backlog, and random arrivals, in turn; the first backlog only teaches the worker the costs."""
    seconds, repeats = QUICK_SECONDS if plan.quick else SECONDS, plan.repeats
    progress.expect(3 * repeats + 1)
    pairs: dict[str, list[tuple[Recorded, Simulation]]] = {"backlog": [], "random arrivals": []}
    ways: list[float] = []
    with rig({MODEL: MODELS / MODEL}) as bench:
        bench.the_worker()
        progress.step("first backlog")
        rate = _backlog(bench, RATE_FIRST * seconds, way_s=0.0)[0].rate
        for _ in range(repeats):
            progress.step("one job at a time")
            ways.append(way_s := _way_s(bench))
            progress.step("backlog")
            pairs["backlog"].append(_backlog(bench, rate * seconds, way_s=way_s))
            progress.step("random arrivals")
            pairs["random arrivals"].append(_random_arrivals(bench, SHARE * rate, seconds, way_s=way_s))
    report = _report(pairs)
    report.notes.append(f"A job's way to the batcher and back, ms: {spread([1000 * way for way in ways])}.")
    return [report]


def _way_s(bench: Rig) -> float:
    """Twice what passes from submission to the first forward, with nothing else to do."""
    bench.level()
    client, texts = bench.client(), mixed_rows(JOB_ROWS * LONE_JOBS)
    for start in range(0, len(texts), JOB_ROWS):
        client.submit(MODEL, texts[start : start + JOB_ROWS]).wait(timeout=60)
    return 2 * float(bench.value(WAY))


def _backlog(bench: Rig, rows: float, *, way_s: float) -> tuple[Recorded, Simulation]:
    """Everything at once, in jobs of eight texts."""
    bench.level()
    client, texts = bench.client(), mixed_rows(int(rows) // JOB_ROWS * JOB_ROWS)
    parts = [texts[start : start + JOB_ROWS] for start in range(0, len(texts), JOB_ROWS)]
    jobs = client.submit_jobs(MODEL, parts)
    lengths = {job.job_id: _lengths(part) for part, job in zip(parts, jobs, strict=True)}
    return _compared(bench, lengths, way_s=way_s)


def _random_arrivals(bench: Rig, rate: float, seconds: float, *, way_s: float) -> tuple[Recorded, Simulation]:
    """Jobs of eight texts, Poisson, at so many texts a second."""
    bench.level()
    client = bench.client()
    lengths: dict[UUID, list[int]] = {}
    senders = [
        threading.Thread(target=_send, args=(client, lengths, _moments(rate / SENDERS, seconds, number)))
        for number in range(SENDERS)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    return _compared(bench, lengths, way_s=way_s)


def _moments(rate: float, seconds: float, seed: int) -> list[float]:
    """When jobs come that bring so many texts a second."""
    source, moments = random.Random(seed), [0.0]
    while moments[-1] < seconds:
        moments.append(moments[-1] + source.expovariate(rate / JOB_ROWS))
    return moments[1:-1]


def _send(client: Client, lengths: dict[UUID, list[int]], moments: Sequence[float]) -> None:
    began, texts = time.perf_counter(), mixed_rows(JOB_ROWS * len(moments))
    for number, moment in enumerate(moments):
        time.sleep(max(0.0, began + moment - time.perf_counter()))
        part = texts[number * JOB_ROWS : (number + 1) * JOB_ROWS]
        lengths[client.submit(MODEL, part).job_id] = _lengths(part)


def _lengths(texts: Sequence[Any]) -> list[int]:
    return [len(text) for text in texts]


def _compared(bench: Rig, lengths: dict[UUID, list[int]], *, way_s: float) -> tuple[Recorded, Simulation]:
    wait_for(lambda: bench.finished() == len(lengths), "every job has ended", within_s=300)
    jobs = bench.ask(RECORDED)
    first, last = jobs[0][1], max(job[4] for job in jobs)
    trace = [
        Arrival(at_s=at - first, rows=rows, lengths=lengths[UUID(str(id))], priority=Priority(priority))
        for id, at, rows, priority, _ in jobs
    ]
    time.sleep(REPORTED_AFTER_S)
    (told,) = bench.value(TOLD).values()
    latencies = [finished - at for _, at, _, _, finished in jobs]
    recorded = Recorded(trace, latencies, sum(job[2] for job in jobs) / (last - first), told)
    return recorded, _simulated(recorded, way_s)


def _simulated(recorded: Recorded, way_s: float) -> Simulation:
    limits, trace, told = read_config(MODELS / MODEL / "1").batching, recorded.trace, recorded.told
    cost, sizing = (Sizing.of(limits.max_rows, told["sizing"]) for _ in range(2))
    held = credit_rows(limits, told["rows_per_s"])
    return simulate(trace, limits, fitted(cost), held_rows=held, sizing=sizing, way_s=way_s)


def _report(pairs: dict[str, list[tuple[Recorded, Simulation]]]) -> Report:
    columns = ["load", "n", "figure", "fleet", "simulated", "simulated ÷ fleet"]
    report = Report("simulator", columns, kind="bench")
    for load, runs in pairs.items():
        for what, fleet, simulated in (
            ("texts/s", [r.rate for r, _ in runs], [s.rows_per_s for _, s in runs]),
            *(
                (
                    f"p{percent} ms",
                    [1000 * percentile(r.latencies, percent / 100) for r, _ in runs],
                    [1000 * s.latency_s(percent) for _, s in runs],
                )
                for percent in (50, 99)
            ),
        ):
            ratios = [b / a for a, b in zip(fleet, simulated, strict=True)]
            report.row(
                load, len(runs), what, statistics.median(fleet), statistics.median(simulated), spread(ratios)
            )
    report.raw = {
        load: [{"fleet": r.document(), "simulated": s.rows_per_s} for r, s in runs]
        for load, runs in pairs.items()
    }
    return report
