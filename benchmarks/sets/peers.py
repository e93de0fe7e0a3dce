"""Other ways on the items, one simple worker each, beside Shunter and celery-batches."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.contest import Contestant, Plan, contest, rates_report
from benchmarks.contestants import celery, others
from benchmarks.contestants.ray_data import RayData
from benchmarks.contestants.shunter import BURST, Shunter, as_lists, many
from benchmarks.plots import rates_plot
from benchmarks.progress import Progress
from benchmarks.report import Report
from benchmarks.rig import MODELS, rig

MINE = "Shunter"
CORES = 2


def contestants() -> list[Contestant]:
    """All of them, Shunter first."""
    how = f"one worker, submit_many in bursts of {BURST:,}, rows as lists"
    mine = Shunter(MINE, how, "mlp", many("mlp"), as_lists("mlp"), first=50_000)
    return [
        mine,
        celery.batches(),
        celery.stock("threads", CORES),
        celery.stock("prefork", CORES),
        others.rq(),
        others.dramatiq(),
        others.taskiq(),
        others.ray_serve(),
        RayData(),
    ]


def measure(plan: Plan, progress: Progress) -> Sequence[Report]:
    """Rates, CPU and memory."""
    entered = contestants()
    with rig({"mlp": MODELS / "mlp"}) as bench:
        runs = contest(bench, entered, plan, progress)
    rates_plot("peers", "Items of 128 floats through an MLP, other ways", runs)
    return [rates_report("peers", runs, MINE, entered)]
