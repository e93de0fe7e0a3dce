"""One job on an idle, warm fleet, submit until its result is readable, beside a stock Celery task."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence

from benchmarks.contest import Plan
from benchmarks.contestants.celery import KNOWN, sender, stock
from benchmarks.contestants.shunter import ENDED
from benchmarks.models import sample_rows
from benchmarks.plots import bars_plot
from benchmarks.progress import Progress
from benchmarks.report import Report, percentile
from benchmarks.rig import MODELS, Rig, rig

STOCK = "stock Celery task, its result by one INSERT"
POLL_S = 0.001
PAUSE_S = 0.02, 0.2
WARM_UP = 10
JOBS, QUICK_JOBS = 300, 60


def measure(plan: Plan, progress: Progress) -> Sequence[Report]:
    """Milliseconds, each way in turn, with random pauses."""
    jobs = QUICK_JOBS if plan.quick else JOBS
    progress.expect(jobs)
    source = random.Random(1)
    with rig({"mlp": MODELS / "mlp"}) as bench:
        ways = _ways(bench)
        times: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(-WARM_UP, jobs):
            if number >= 0:
                progress.step("lone jobs")
            for name, way in ways.items():
                time.sleep(source.uniform(*PAUSE_S))
                began = time.perf_counter()
                way()
                if number >= 0:
                    times[name].append(1000 * (time.perf_counter() - began))
    bars_plot("lone", "A lone job, submit until its result is readable", "ms", times)
    return [_report(times)]


def _ways(bench: Rig) -> Mapping[str, Callable[[], object]]:
    bench.the_worker()
    stock().prepare(bench)
    client, app = bench.client(), sender(bench)
    row = sample_rows("mlp", 1)[0]
    floats = row.tolist()

    def until(statement: str, id: str) -> None:
        while not any(value for (value,) in bench.ask(statement, id)):
            time.sleep(POLL_S)

    return {
        "Shunter, submit; select": lambda: until(ENDED, client.submit("mlp", [row]).id),
        "Shunter, submit(...).outputs()": lambda: client.submit("mlp", [row]).outputs(),
        STOCK: lambda: until(KNOWN, app.send_task("one", (floats,), queue="stock").id),
    }


def _report(times: Mapping[str, list[float]]) -> Report:
    report = Report(
        "lone", ["way", "n", "p50 ms", "p99 ms", "p50 ÷ stock Celery"], kind="bench", raw=dict(times)
    )
    theirs = percentile(times[STOCK], 0.5)
    for name, of in times.items():
        p50 = percentile(of, 0.5)
        report.row(name, len(of), p50, percentile(of, 0.99), p50 / theirs)
    report.notes.append(
        f"The MLP, one row of 128 floats; pauses of {PAUSE_S[0]} to {PAUSE_S[1]} s; `select` asks Postgres "
        "every ms, for both alike."
    )
    return report
