"""Jobs of one row, each with a database row of its own, submit until every result is readable."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.contest import Contestant, Plan, contest, rates_report
from benchmarks.contestants import celery
from benchmarks.contestants.shunter import JOBS_BURST, Shunter, in_threads, jobs_of, many_jobs
from benchmarks.plots import rates_plot
from benchmarks.progress import Progress
from benchmarks.report import Report
from benchmarks.rig import MODELS, rig

MINE = "Shunter"


def contestants() -> list[Contestant]:
    """All of them; the first is what the others are beside."""
    return [
        Shunter(MINE, f"one worker, submit_jobs in bursts of {JOBS_BURST:,}", "mlp", many_jobs("mlp")),
        Shunter(
            "Shunter, 16 threads",
            "one worker, submit from 16 threads",
            "mlp",
            in_threads("mlp", 16),
            first=1024,
            step=1,
        ),
        Shunter(
            "Shunter, 1 thread",
            "one worker, submit from 1 thread",
            "mlp",
            jobs_of("mlp", 1),
            first=1024,
            step=1,
        ),
        celery.batches(),
        celery.packed(),
    ]


def measure(plan: Plan, progress: Progress) -> Sequence[Report]:
    """Rates, CPU and memory."""
    entered = contestants()
    with rig({"mlp": MODELS / "mlp"}) as bench:
        runs = contest(bench, entered, plan, progress)
    rates_plot("jobs", "Jobs of one row through an MLP, one worker", runs)
    return [rates_report("jobs", runs, MINE, entered)]
