"""Single items of 128 floats through an MLP, submit until every result is readable, with one worker each."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.contest import Contestant, Plan, contest, rates_report
from benchmarks.contestants import celery
from benchmarks.contestants.hand import HandLoop
from benchmarks.contestants.shunter import BURST, Shunter, as_lists, many
from benchmarks.plots import rates_plot
from benchmarks.progress import Progress
from benchmarks.report import Report
from benchmarks.rig import MODELS, rig

MINE = "Shunter"


def contestants() -> list[Contestant]:
    """All of them, Shunter first."""
    how = f"one worker, submit_many in bursts of {BURST:,}"
    return [
        Shunter(MINE, f"{how}, rows as arrays", "mlp", many("mlp"), first=50_000),
        Shunter("Shunter, lists", f"{how}, rows as lists", "mlp", many("mlp"), as_lists("mlp"), first=50_000),
        celery.batches(),
        celery.stock(),
        celery.packed(),
        HandLoop("JSONL"),
        HandLoop("Parquet"),
    ]


def measure(plan: Plan, progress: Progress) -> Sequence[Report]:
    """Rates, CPU and memory."""
    entered = contestants()
    with rig({"mlp": MODELS / "mlp"}) as bench:
        runs = contest(bench, entered, plan, progress)
    report = rates_report("items", runs, MINE, entered)
    rates_plot("items", "Items of 128 floats through an MLP, one worker", runs)
    return [report]
