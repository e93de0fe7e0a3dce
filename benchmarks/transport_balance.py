"""How `map` spreads over workers: two alike, one of them slower, one that joins late."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.report import Report
from benchmarks.rig import TIMED, Rig, rig, say
from shunter import Client

ROWS = 100_000
BATCH_ROWS = 256
BATCH_S = 0.05
SLOWNESS = 4
JOIN_AFTER_S = 5.0
FAIR_SHARE = 0.4

ENDS = """
SELECT split_part(name, '@', 1), sum(rows), extract(epoch FROM max(finished_at))::float8
FROM jobs JOIN workers ON worker = incarnation WHERE finished_at IS NOT NULL GROUP BY 1 ORDER BY 1
"""

BINS = """
SELECT floor(extract(epoch FROM finished_at - %s))::int AS bin, split_part(name, '@', 1), sum(rows)
FROM jobs JOIN workers ON worker = incarnation WHERE finished_at IS NOT NULL GROUP BY 1, 2 ORDER BY 1
"""


def balance() -> Report:
    """`map` of 100,000 rows over two workers; the model takes 50 ms per batch of 256."""
    report = Report("balance", ["case", "rows/s", "share of each", "idle at the end"])
    toml = f"[batching]\nmax_rows = {BATCH_ROWS}\n[params]\nseconds = {BATCH_S}\n"
    with rig({"timed": TIMED}, toml) as bench:
        for submit in ("map", "submit_many"):
            _case(report, bench, submit, slowness=1)
            _case(report, bench, submit, slowness=SLOWNESS)
        _late(report, bench)
    report.notes.append(
        f"A batch of {BATCH_ROWS} takes {1000 * BATCH_S:.0f} ms, {SLOWNESS} x so long on the slow one. Idle "
        "at the end: from the last settled job of the worker that ran dry first to the last of all."
    )
    return report


def _case(report: Report, bench: Rig, submit: str, *, slowness: int) -> None:
    name = f"{submit}, two alike" if slowness == 1 else f"{submit}, b {slowness} x slower"
    with _workers(bench, {"a": 1, "b": slowness}):
        began = time.perf_counter()
        _run(bench, submit)
        took = time.perf_counter() - began
        found = {worker: (int(rows), end) for worker, rows, end in bench.ask(ENDS)}
    last = max(end for _, end in found.values())
    idle = {worker: last - end for worker, (_, end) in found.items()}
    share = ", ".join(f"{worker} {rows / ROWS:.1%}" for worker, (rows, _) in found.items())
    first, idle_s = max(idle.items(), key=lambda item: item[1])
    kind = "slow batches" if slowness > 1 else "batches"
    ended = f"{first} {idle_s:.2f} s = {idle_s / (BATCH_S * slowness):.1f} {kind}"
    report.row(name, ROWS / took, share, ended)
    report.raw[name] = {"found": found, "s": took}
    say(f"{name}: {took:.1f} s; {share}; {ended}")


def _late(report: Report, bench: Rig) -> None:
    with _workers(bench, {"a": 1}):
        mapping = threading.Thread(target=_run, args=(bench, "map"), daemon=True)
        mapping.start()
        time.sleep(JOIN_AFTER_S)
        bench.start_worker("b")
        joined = bench.value("SELECT clock_timestamp()")
        mapping.join()
        bins = bench.ask(BINS, joined)
    rows: dict[int, dict[str, int]] = {}
    for number, worker, count in bins:
        rows.setdefault(int(number), {})[worker] = int(count)
    fair = [
        number
        for number, of in sorted(rows.items())
        if number >= 0 and of.get("b", 0) >= FAIR_SHARE * sum(of.values())
    ]
    said = f"first second with {FAIR_SHARE:.0%} of the rows: {fair[0] + 1 if fair else 'never'}"
    report.row("map, b joins late", "-", said, "-")
    report.raw["late"] = rows
    say(f"late: {said}; rows by second since it registered: {dict(sorted(rows.items()))}")


def _run(bench: Rig, submit: str) -> None:
    with Client(settings=bench.settings) as client:
        if submit == "map":
            assert sum(1 for _ in client.map("timed", range(ROWS))) == ROWS
        else:
            items = client.submit_many("timed", range(ROWS))
            for _ in client.as_completed(items):
                pass


@contextmanager
def _workers(bench: Rig, slowness: dict[str, int]) -> Iterator[None]:
    """Workers that have run one batch each; the jobs table is empty again."""
    bench.forget_jobs()
    bench.ask("DELETE FROM workers")
    running: list[Any] = []
    with Client(settings=bench.settings) as client:
        for name, slow in slowness.items():
            worker = bench.start_worker(name, BENCH_SLOWNESS=str(slow))
            for other in running:
                other.freeze()
            client.submit("timed", [0]).outputs()
            for other in running:
                other.thaw()
            running.append(worker)
    bench.forget_jobs()
    yield
    for worker in running:
        worker.stop()
