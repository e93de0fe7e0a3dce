"""Contestants side by side: each in turn, A B A B, in one run on the same services."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.figures import Run, Runs, rate_table, scaled
from benchmarks.progress import Progress
from benchmarks.report import Report
from benchmarks.rig import Rig, say


class Contestant(Protocol):
    """One way to do the work."""

    name: str
    settings: str
    """How it is set, in words."""
    first: int
    """Items of the first run, which tells how many the measured ones need."""
    step: int
    """Items come in multiples of this."""

    def prepare(self, bench: Rig) -> None:
        """Start what it needs; the rig stops it."""

    def run(self, items: int) -> Run:
        """Do this many items, from the first submitted until every result is readable."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often to measure."""

    repeats: int = 5
    seconds: float = 6.0
    """About how long each run of each contestant takes."""
    quick: bool = False


QUICK = Plan(repeats=3, seconds=1.5, quick=True)


def contest(bench: Rig, contestants: Sequence[Contestant], plan: Plan, progress: Progress) -> Runs:
    """Prepare all, find how many items each needs, then run all in turn, again and again."""
    runs: dict[str, list[Run]] = {contestant.name: [] for contestant in contestants}
    progress.expect((plan.repeats + 1) * len(contestants))
    counts = {}
    for contestant in contestants:
        progress.step(f"{contestant.name}: first run")
        contestant.prepare(bench)
        counts[contestant.name] = _count_for(bench, contestant, plan.seconds)
    for repetition in range(plan.repeats):
        for contestant in contestants:
            progress.step(f"{contestant.name}: {repetition + 1} of {plan.repeats}")
            run = _once(bench, contestant, counts[contestant.name])
            runs[contestant.name].append(run)
            # Told at once: who is ended before the table has at least this.
            say(f"{contestant.name}: {run.rate:,.1f}/s, CPU s per 1000: {run.cpu_s_per_1000:.3g}")
    for name, of in runs.items():
        say(f"{name}: {statistics.median(run.rate for run in of):,.0f}/s")
    return runs


def _count_for(bench: Rig, contestant: Contestant, seconds: float) -> int:
    """The items that take so long once it is warm: its first run, which is not counted, loads its model."""
    count, step = contestant.first, contestant.step
    _once(bench, contestant, count)
    for wanted_s in (seconds / 2, seconds):
        run = _once(bench, contestant, count)
        if run.seconds > seconds / 2:
            return scaled(run.items, run.seconds, wanted_s=seconds, step=step)
        count = scaled(run.items, run.seconds, wanted_s=wanted_s, step=step)
    return count


def _once(bench: Rig, contestant: Contestant, items: int) -> Run:
    bench.level()
    return contestant.run(items)


def rates_report(name: str, runs: Runs, mine: str, contestants: Sequence[Contestant]) -> Report:
    """The table of a contest, how each contestant was set, and all runs."""
    columns, rows = rate_table(runs, mine)
    report = Report(name, columns, list(rows), kind="bench")
    report.notes += [f"{contestant.name}: {contestant.settings}." for contestant in contestants]
    report.raw = {who: [run.document() for run in of] for who, of in runs.items()}
    return report
