"""Served ÷ raw for a small network, where a row costs the fleet more than the model."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.contest import Plan
from benchmarks.progress import Progress
from benchmarks.report import Report
from benchmarks.sets.served import served


def measure(plan: Plan, progress: Progress) -> Sequence[Report]:
    """The table of the MLP."""
    return [served("mlp", 20_000, plan, progress)]
