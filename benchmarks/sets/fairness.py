"""Urgent jobs that arrive at random at 70 % of what the fleet can do, while bulk waits for all of it.

Random arrivals queue even before a worker that loses no time: there are moments with more work than any can
do. So the pure batcher runs the same arrivals again, without a way to it and without pauses between batches,
and what such a worker makes of them stands beside what the fleet did.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from benchmarks.contest import Plan
from benchmarks.plots import bars_plot
from benchmarks.progress import Progress
from benchmarks.report import Report, percentile, spread
from benchmarks.rig import TIMED, Rig, rig, wait_for
from shunter import Client
from shunter.storage.job import Priority
from shunter.storage.model_config import Batching
from shunter.workers.holdings import credit_rows
from shunter.workers.simulation import Arrival
from shunter.workers.simulator import simulate
from shunter.workers.sizing import Sizing

BATCH_S = 0.05
BATCH_ROWS = 64
MOST_ROWS_PER_S = BATCH_ROWS / BATCH_S
JOB_ROWS = 8
SHARE = 0.7
THREADS = 4
"""Senders: one alone could be held up by a commit."""
SETTLING_S = 3.0
"""The start of a load is not measured."""
ALONE_S = 8.0
"""Bulk alone runs evenly: so long is enough to know its rate."""
SECONDS, QUICK_SECONDS = 25.0, 8.0
SPARE = 0.1
"""Of what the model can do, so much bulk is submitted beyond what will be run."""
LIMITS = Batching(max_rows=BATCH_ROWS)
TOML = f"[batching]\nmax_rows = {BATCH_ROWS}\n[params]\nseconds = {BATCH_S}\n"

NOW = "SELECT extract(epoch FROM clock_timestamp())::float8"
URGENT = """
SELECT extract(epoch FROM enqueued_at)::float8, extract(epoch FROM forward_at - enqueued_at)::float8
FROM jobs WHERE priority = 0 ORDER BY enqueued_at
"""
ROWS = """
SELECT coalesce(sum(rows), 0) FROM jobs
WHERE finished_at > to_timestamp(%s) AND finished_at <= to_timestamp(%s)
"""


@dataclass(frozen=True, slots=True)
class Turn:
    """One repetition: rates in rows a second, waits of urgent jobs in batch times."""

    alone: float
    together: float
    waits: Sequence[float]
    ideal: Sequence[float]
    """What a worker that loses no time makes of the same arrivals."""


def measure(plan: Plan, progress: Progress) -> Sequence[Report]:
    """Bulk alone, then with urgent jobs, in turn; each time with other arrivals."""
    seconds = QUICK_SECONDS if plan.quick else SECONDS
    repeats = 1 if plan.quick else plan.repeats
    progress.expect(2 * repeats)
    turns = []
    with rig({"timed": TIMED}, TOML) as bench:
        bench.the_worker()
        for number in range(repeats):
            progress.step("bulk alone")
            alone = _alone(bench)
            progress.step("bulk and urgent")
            turns.append(_together(bench, seconds, alone=alone, number=number))
    rates = {
        "bulk alone": [turn.alone for turn in turns],
        "with urgent jobs": [turn.together for turn in turns],
    }
    bars_plot("fairness", "Rows settled a second", "rows/s", rates)
    return [_report(turns)]


def _alone(bench: Rig) -> float:
    """What the fleet can do, in rows settled a second."""
    _submit_bulk(bench, ALONE_S, share=1.0)
    return _rate(bench, *_window(bench, ALONE_S))


def _together(bench: Rig, seconds: float, *, alone: float, number: int) -> Turn:
    client = _submit_bulk(bench, seconds, share=1.0 - SHARE)
    ended = threading.Event()
    rate = SHARE * alone / JOB_ROWS / THREADS
    senders = [
        threading.Thread(target=_send, args=(client, ended, rate, THREADS * number + place))
        for place in range(THREADS)
    ]
    for sender in senders:
        sender.start()
    began, end = _window(bench, seconds)
    ended.set()
    for sender in senders:
        sender.join()
    together = _rate(bench, began, end)
    urgent = bench.ask(URGENT)
    waits = [wait / BATCH_S for at, wait in urgent if began < at < end]
    return Turn(alone, together, waits, _ideal([at for at, _ in urgent], began, end))


def _submit_bulk(bench: Rig, seconds: float, *, share: float) -> Client:
    """Never all of it is run within the time, if it has that share of the model."""
    bench.level()
    client = bench.client()
    enough = int((share + SPARE) * (seconds + SETTLING_S) * MOST_ROWS_PER_S)
    client.submit_many("timed", list(range(enough)), priority="bulk")
    return client


def _window(bench: Rig, seconds: float) -> tuple[float, float]:
    """When the measured time began and ended, by Postgres' clock."""
    time.sleep(SETTLING_S)
    began = bench.value(NOW)
    time.sleep(seconds)
    return began, bench.value(NOW)


def _rate(bench: Rig, began: float, end: float) -> float:
    """Rows settled a second in that time, once all have ended."""
    wait_for(lambda: not bench.value("SELECT count(*) FROM jobs WHERE finished_at IS NULL"), "all ended")
    return int(bench.value(ROWS, began, end)) / (end - began)


def _send(client: Client, ended: threading.Event, rate: float, seed: int) -> None:
    """A share of the urgent jobs, Poisson: exponential pauses that do not depend on how long a call takes."""
    source, due = random.Random(seed), time.perf_counter()
    while not ended.wait(max(0.0, (due := due + source.expovariate(rate)) - time.perf_counter())):
        client.submit("timed", list(range(JOB_ROWS)), priority="interactive")


def _ideal(moments: Sequence[float], began: float, end: float) -> list[float]:
    """How many batch times these urgent jobs would wait beside bulk, if nothing but the model took time."""
    bulk = int((end - moments[0]) * MOST_ROWS_PER_S / BATCH_ROWS)
    trace = [Arrival(at_s=moments[0], rows=BATCH_ROWS, priority=Priority.BULK)] * bulk
    trace += [Arrival(at_s=at, rows=JOB_ROWS, priority=Priority.INTERACTIVE) for at in moments]
    fit = {"rows": BATCH_ROWS, "settled": True, "overhead_s": BATCH_S, "throughput": None}
    simulated = simulate(
        trace,
        LIMITS,
        lambda batch: BATCH_S,
        held_rows=credit_rows(LIMITS, MOST_ROWS_PER_S),
        sizing=Sizing.of(BATCH_ROWS, {"rows": fit}),
    )
    urgent = [job for job in simulated.jobs if job.priority is Priority.INTERACTIVE]
    return [job.queued_s / BATCH_S for job in urgent if began < job.arrival.at_s < end]


def _report(turns: Sequence[Turn]) -> Report:
    report = Report("fairness", ["figure", "fleet", "a worker that loses no time"], kind="bench")
    fleet, ideal = [turn.waits for turn in turns], [turn.ideal for turn in turns]
    for share in (0.5, 0.9, 0.99, 1.0):
        what = f"urgent jobs, queueing p{100 * share:.0f}, batch times"
        report.row(what, *(percentile([*chain(*waits)], share) for waits in (fleet, ideal)))
    report.row(
        "p99 of each turn", *(spread([percentile(of, 0.99) for of in waits]) for waits in (fleet, ideal))
    )
    report.row("urgent jobs measured", *(sum(map(len, waits)) for waits in (fleet, ideal)))
    report.row("rows/s, bulk alone", spread([turn.alone for turn in turns]), "")
    report.row("rows/s, with urgent jobs", spread([turn.together for turn in turns]), "")
    report.row("with urgent jobs ÷ bulk alone", spread([turn.together / turn.alone for turn in turns]), "")
    report.notes.append(
        f"The model takes {1000 * BATCH_S:.0f} ms for a batch of at most {BATCH_ROWS} rows; urgent jobs of "
        f"{JOB_ROWS} rows bring {SHARE:.0%} of the rate of bulk alone. Queueing: from enqueued until the "
        "first forward begins; the batch that is running when a job comes cannot be stopped."
    )
    report.raw = {"turns": [(turn.alone, turn.together, turn.waits, turn.ideal) for turn in turns]}
    return report
