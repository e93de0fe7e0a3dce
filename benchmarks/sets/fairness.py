"""Urgent jobs that arrive at random at 70 % of what the model can do, while bulk waits for all of it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence

from benchmarks.contest import Plan
from benchmarks.plots import bars_plot
from benchmarks.progress import Progress
from benchmarks.report import Report, percentile
from benchmarks.rig import TIMED, Rig, rig, wait_for
from shunter import Client

BATCH_S = 0.05
BATCH_ROWS = 64
JOB_ROWS = 8
SHARE = 0.7
THREADS = 4
"""Senders: one alone could be held up by a commit."""
SETTLING_S = 3.0
"""The start of a load is not measured."""
SECONDS, QUICK_SECONDS = 25.0, 8.0
TOML = f"[batching]\nmax_rows = {BATCH_ROWS}\n[params]\nseconds = {BATCH_S}\n"

WAITS = """
SELECT extract(epoch FROM forward_at - enqueued_at)::float8 FROM jobs
WHERE priority = 0 AND enqueued_at > %s AND enqueued_at < %s AND forward_at IS NOT NULL
"""
ROWS = """
SELECT coalesce(sum(rows), 0) FROM jobs WHERE finished_at > %s AND finished_at <= %s
"""


def measure(plan: Plan, progress: Progress) -> Sequence[Report]:
    """Bulk alone, then with urgent jobs, in turn."""
    seconds = QUICK_SECONDS if plan.quick else SECONDS
    repeats = 1 if plan.quick else plan.repeats
    progress.expect(2 * repeats)
    alone, together, waits = [], [], list[float]()
    with rig({"timed": TIMED}, TOML) as bench:
        bench.the_worker()
        for _ in range(repeats):
            progress.step("bulk alone")
            alone.append(_load(bench, seconds, urgent=False)[0])
            progress.step("bulk and urgent")
            rate, waited = _load(bench, seconds, urgent=True)
            together.append(rate)
            waits += waited
    bars_plot(
        "fairness", "Rows settled a second", "rows/s", {"bulk alone": alone, "with urgent jobs": together}
    )
    return [_report(alone, together, waits)]


def _load(bench: Rig, seconds: float, *, urgent: bool) -> tuple[float, list[float]]:
    """Rows settled a second, and how long each urgent job waited for its forward, in batch times."""
    bench.level()
    client = bench.client()
    # Never all of it within the time; beside urgent jobs less of it is run.
    share = 1.0 - SHARE + 0.2 if urgent else 1.1
    enough = int(share * (seconds + SETTLING_S) * BATCH_ROWS / BATCH_S)
    client.submit_many("timed", list(range(enough)), priority="bulk")
    ended = threading.Event()
    senders = [
        threading.Thread(target=_send, args=(client, ended, seed)) for seed in range(THREADS if urgent else 0)
    ]
    for sender in senders:
        sender.start()
    time.sleep(SETTLING_S)
    began = bench.value("SELECT clock_timestamp()")
    time.sleep(seconds)
    end = bench.value("SELECT clock_timestamp()")
    ended.set()
    for sender in senders:
        sender.join()
    wait_for(lambda: not bench.value("SELECT count(*) FROM jobs WHERE finished_at IS NULL"), "all ended")
    rate = int(bench.value(ROWS, began, end)) / (end - began).total_seconds()
    return rate, [wait / BATCH_S for (wait,) in bench.ask(WAITS, began, end)]


def _send(client: Client, ended: threading.Event, seed: int) -> None:
    """A share of the urgent jobs, Poisson: exponential pauses that do not depend on how long a call takes."""
    source, rate = random.Random(seed), SHARE * BATCH_ROWS / BATCH_S / JOB_ROWS / THREADS
    due = time.perf_counter()
    while not ended.wait(max(0.0, (due := due + source.expovariate(rate)) - time.perf_counter())):
        client.submit("timed", list(range(JOB_ROWS)), priority="interactive")


def _report(alone: Sequence[float], together: Sequence[float], waits: Sequence[float]) -> Report:
    report = Report("fairness", ["figure", "value"], kind="bench")
    shares = [b / a for a, b in zip(alone, together, strict=True)]
    for share in (0.5, 0.9, 0.99, 1.0):
        report.row(f"urgent jobs, queueing p{100 * share:.0f}, batch times", percentile(waits, share))
    report.row("urgent jobs measured", len(waits))
    report.row("rows/s, bulk alone", percentile(alone, 0.5))
    report.row("rows/s, with urgent jobs", percentile(together, 0.5))
    report.row("with urgent jobs ÷ bulk alone", percentile(shares, 0.5))
    report.notes.append(
        f"The model takes {1000 * BATCH_S:.0f} ms for a batch of at most {BATCH_ROWS} rows; urgent jobs of "
        f"{JOB_ROWS} rows bring {SHARE:.0%} of that. Queueing: from enqueued until the first forward begins; "
        "the batch that is running when a job comes cannot be stopped."
    )
    report.raw = {"alone": list(alone), "together": list(together), "waits": list(waits)}
    return report
