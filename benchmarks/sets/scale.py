"""The fleet alone, with a model that does nothing: 1, 2 and 4 workers, and a long queue."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.contest import Plan
from benchmarks.progress import Progress
from benchmarks.report import Report
from benchmarks.sets.depth import measure_depth, measure_million
from benchmarks.sets.workers import measure_workers

DEPTHS, QUICK_DEPTHS = (10_000, 100_000, 1_000_000), (10_000, 100_000)


def measure(plan: Plan, progress: Progress) -> Sequence[Report]:
    """Workers, depth of the queue, and a million items through one worker."""
    reports = [measure_workers(plan, progress)]
    reports.append(measure_depth(QUICK_DEPTHS if plan.quick else DEPTHS, progress))
    if not plan.quick:
        reports.append(measure_million(progress))
    return reports
