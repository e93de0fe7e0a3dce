"""Whether a process's memory grows with every batch: what is allocated once looks different from a leak."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import psutil

SETTLING = 3
"""The first readings, in which allocators and caches fill, do not count."""

READINGS = SETTLING + 6
RUNS_PER_READING = 64
READING_S = 0.25
"""Each reading follows so many batches, or as many as fit into this time."""

LEAST_STEP = 64 * 2**10
"""Memory that grows by less between two readings, once, is no leak."""


def steady_growth(resident: Sequence[int]) -> int | None:
    """The bytes that memory grew by between the settled readings, if it grew at every one; pure."""
    settled = resident[SETTLING:]
    steps = [after - before for before, after in pairwise(settled)]
    return sum(steps) if steps and min(steps) >= LEAST_STEP else None


def read_memory(
    batch: Callable[[], object],
    *,
    resident: Callable[[], int] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[list[int], int]:
    """The process's resident bytes, READINGS times between batches, and how many batches ran in all."""
    resident = resident or _resident
    readings: list[int] = []
    batches = 0
    gc.freeze()  # what was there before is no garbage, and looking through it takes long
    try:
        for _ in range(READINGS):
            batches += _run_for_a_while(batch, clock)
            gc.collect()
            readings.append(resident())
    finally:
        gc.unfreeze()
    return readings, batches


def _run_for_a_while(batch: Callable[[], object], clock: Callable[[], float]) -> int:
    until, runs = clock() + READING_S, 0
    while not runs or (runs < RUNS_PER_READING and clock() < until):
        batch()
        runs += 1
    return runs


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)
