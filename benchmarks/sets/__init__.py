"""What is measured, by name: each module's `measure` starts its own services and returns its reports."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Protocol

from benchmarks.contest import Plan
from benchmarks.progress import Progress
from benchmarks.report import Report

SETS: Mapping[str, str] = {
    "items": "single items of 128 floats through an MLP, with every kind of rival",
    "jobs": "jobs of one row, each with a database row of its own",
    "submit": "submitting one by one, durable at return",
    "served": "a MiniLM-sized encoder, served and as a raw loop",
    "served_small": "the MLP, served and as a raw loop",
    "lengths": "texts of mixed lengths, batched by length and in fixed batches",
    "sizing": "the batch size that is found, beside every fixed one",
    "memory": "a device of known memory",
    "simulator": "traces of the fleet, run again by the pure batcher",
    "lone": "one job on an idle fleet, beside a stock Celery task",
    "fairness": "urgent jobs while bulk waits",
    "scale": "1, 2 and 4 workers, and a queue of up to a million jobs",
    "profile": "the CPU of one item, by process and function",
    "peers": "Celery's other pools, RQ, Dramatiq, Taskiq, Ray Serve and Ray Data on the items",
}


class Measure(Protocol):
    """What every module of this package has as `measure`."""

    def __call__(self, plan: Plan, progress: Progress) -> Sequence[Report]:
        """Measure, on services of its own."""


def measure_of(name: str) -> Measure:
    """The measurement of this name."""
    found: Measure = importlib.import_module(f"benchmarks.sets.{name}").measure
    return found
