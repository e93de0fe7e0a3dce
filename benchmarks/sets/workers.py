"""1, 2 and 4 workers on one Redis and one Postgres, with a model that does nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import psutil

from benchmarks.contest import Plan
from benchmarks.contestants.shunter import Submit, in_threads, many, wait_until_settled
from benchmarks.figures import Run
from benchmarks.models import sample_rows
from benchmarks.plots import bars_plot
from benchmarks.progress import Progress
from benchmarks.report import Report, spread
from benchmarks.rig import MODELS, Process, Rig, rig
from benchmarks.usage import used_by

COUNTS = (1, 2, 4)
WAYS = {"items": (many("noop"), 50_000), "jobs of one row": (in_threads("noop", 16), 1500)}
"""How to submit, and how many a second to begin with."""


def measure_workers(plan: Plan, progress: Progress) -> Report:
    """Rates of a queue that lies there when the workers are let go; who had the cores meanwhile."""
    repeats = 1 if plan.quick else plan.repeats
    progress.expect(repeats * len(COUNTS) * len(WAYS))
    columns = ["submitted as", "workers", "n", "drained items/s", "worker cores", "machine's cores busy"]
    report = Report("scale-workers", columns, kind="bench")
    runs: dict[tuple[str, int], list[Run]] = {(way, count): [] for way in WAYS for count in COUNTS}
    with rig({"noop": MODELS / "noop"}) as bench:
        for _ in range(repeats):
            for count in COUNTS:
                for way, run in _drains(bench, count, plan.seconds, progress):
                    runs[way, count].append(run)
    for (way, count), of in runs.items():
        cores = [run.cpu_s / run.seconds for run in of]
        busy = [run.extra["busy"] for run in of]
        report.row(way, count, len(of), spread([run.rate for run in of]), spread(cores), spread(busy))
    report.notes.append("All are queued before the workers are let go: nobody submits meanwhile.")
    report.raw = {f"{way}, {count}": [run.document() for run in of] for (way, count), of in runs.items()}
    bars_plot(
        "scale-workers",
        "Drained with a model that does nothing",
        "items/s",
        {f"{way}, {count} workers": [run.rate for run in of] for (way, count), of in runs.items()},
    )
    return report


def _drains(bench: Rig, count: int, seconds: float, progress: Progress) -> Iterator[tuple[str, Run]]:
    """So many workers, fresh, on one queue after the other."""
    with ExitStack() as undo:
        workers = [bench.start_worker(f"worker{number}") for number in range(count)]
        for worker in workers:
            undo.callback(worker.stop)
        for way, (submit, rate) in WAYS.items():
            progress.step(f"{count} workers, {way}")
            yield way, _drain(bench, workers, submit, int(rate * seconds))


def _drain(bench: Rig, workers: Sequence[Process], submit: Submit, items: int) -> Run:
    bench.level()
    client, warm_up = bench.client(), 64 * len(workers)
    wait_until_settled(bench, submit(client, sample_rows("noop", warm_up)), warm_up)
    bench.level()
    for worker in workers:
        worker.freeze()
    last = submit(client, sample_rows("noop", items))
    with used_by(*(worker.pid for worker in workers)) as usage:
        psutil.cpu_percent()
        began = time.perf_counter()
        for worker in workers:
            worker.thaw()
        wait_until_settled(bench, last, items)
        seconds = time.perf_counter() - began
        busy = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1)
    return Run(items, seconds, usage.cpu_s, usage.rss_bytes, {"busy": busy})
