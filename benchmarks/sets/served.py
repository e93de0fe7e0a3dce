"""Served ÷ raw: rows a second through the whole fleet over the raw loop of the same model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.contest import Contestant, Plan, contest, rates_report
from benchmarks.contestants.raw import RawLoop
from benchmarks.contestants.shunter import BURST, Shunter, jobs_of, many
from benchmarks.figures import Runs, ratios
from benchmarks.plots import rates_plot
from benchmarks.progress import Progress
from benchmarks.report import Report, spread
from benchmarks.rig import MODELS, rig

RAW = "raw loop"
ENCODER_S, ENCODER_MORE_REPEATS = 4.0, 6
"""Short turns, and more of them: what a shared machine can do changes within half a minute."""

ENCODER_MOST = 128
"""Larger batches are slower, and take long to try."""


def contestants(model: str, *, first: int) -> list[Contestant]:
    """The raw loop with its best number of threads, and three shapes of jobs."""
    one = "one worker, one engine, as many threads as torch takes by itself"
    most = ENCODER_MOST if model == "encoder" else 1024
    return [
        RawLoop(RAW, model, most=most, threads=range(1, count_of_cores() + 1), first=first),
        Shunter(
            "Shunter, jobs of 1000 rows", one, model, jobs_of(model, 1000), first=first, step=1000, aside=True
        ),
        Shunter("Shunter, jobs of 32 rows", one, model, jobs_of(model, 32), first=first, step=32, aside=True),
        Shunter("Shunter, single items", one, model, many(model, BURST), first=first, step=1, aside=True),
    ]


def measure(plan: Plan, progress: Progress) -> Sequence[Report]:
    """The encoder's table."""
    repeats = 1 if plan.quick else plan.repeats + ENCODER_MORE_REPEATS
    return [served("encoder", 128, replace(plan, seconds=ENCODER_S, repeats=repeats), progress)]


def served(model: str, first: int, plan: Plan, progress: Progress) -> Report:
    """The table of one model."""
    entered = contestants(model, first=first)
    with rig({model: MODELS / model}, one_thread=False) as bench:
        runs = contest(bench, entered, plan, progress)
    report = rates_report(f"served-{model}", runs, RAW, entered)
    report.notes += shares(runs)
    rates_plot(f"served-{model}", f"{model}: the raw loop, and the fleet", runs)
    return report


def count_of_cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


def shares(runs: Runs) -> list[str]:
    """Each contestant over the raw loop."""
    others = [(name, of) for name, of in runs.items() if name != RAW]
    return [f"{name} ÷ {RAW}: {spread(ratios(of, runs[RAW]))}." for name, of in others]
