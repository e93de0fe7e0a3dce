"""Submitting one by one, durable at return, beside Celery's delay; no worker runs."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.contest import Contestant, Plan, contest, rates_report
from benchmarks.contestants.submitting import celery, postgres, shunter
from benchmarks.figures import ratios
from benchmarks.plots import rates_plot
from benchmarks.progress import Progress
from benchmarks.report import Report, spread
from benchmarks.rig import MODELS, rig

THREADS = (1, 16)


def contestants() -> list[Contestant]:
    """Both, and the limit of ours, from one thread and from sixteen."""
    return [make(threads) for threads in THREADS for make in (shunter, celery, postgres)]


def measure(plan: Plan, progress: Progress) -> Sequence[Report]:
    """Rates of submission; the CPU is the submitting process's."""
    entered = contestants()
    with rig({"mlp": MODELS / "mlp"}) as bench:
        runs = contest(bench, entered, plan, progress)
    names = [contestant.name for contestant in entered]
    report = rates_report("submit", runs, names[0], entered)
    alone, together = names[:3], names[3:]
    for ours, theirs in (alone[:2], together[:2], (together[0], alone[1]), (alone[0], alone[2])):
        report.notes.append(f"{ours} ÷ {theirs}: {spread(ratios(runs[ours], runs[theirs]))}.")
    rates_plot("submit", "Submitting one by one", runs)
    return [report]
