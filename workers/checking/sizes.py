"""Times batches of rising sizes, and says how many rows are worth having in one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from shunter.workers.batch import Timing
from shunter.workers.checking.pipeline import StageError
from shunter.workers.isolation import is_out_of_memory

BUDGET_S = 10.0
RUNS = 5
"""Of each size; the first is not timed, and of the others the fastest counts."""

GOOD_ENOUGH = 1.1
"""A row may cost so many times what it costs at best: beyond, more rows only make others wait."""


def recommend(timings: Sequence[Timing]) -> int | None:
    """The fewest rows whose cost per row is close to the best measured; None without timings. Pure."""
    best = min((timing.seconds / timing.rows for timing in timings), default=None)
    if best is None:
        return None
    return min(timing.rows for timing in timings if timing.seconds / timing.rows <= GOOD_ENOUGH * best)


def time_sizes(
    batch: Callable[[int], object],
    *,
    largest: int,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Timing]:
    """Run batches of 1, 2, 4 ... `largest` rows, until one is expected to pass the budget or lacks memory.

    Raises StageError.
    """
    until, timings = clock() + BUDGET_S, list[Timing]()
    for rows in _sizes(largest):
        # Twice the rows take at most about twice the time.
        if timings and clock() + 2 * RUNS * timings[-1].seconds > until:
            break
        try:
            timings.append(Timing(rows, 0, min(_seconds(batch, rows, clock))))
        except StageError as error:
            if is_out_of_memory(error.error):
                break
            raise
    return timings


def _sizes(largest: int) -> Iterator[int]:
    rows = 1
    while rows < largest:
        yield rows
        rows *= 2
    yield largest


def _seconds(batch: Callable[[int], object], rows: int, clock: Callable[[], float]) -> list[float]:
    seconds = []
    for _ in range(RUNS):
        began = clock()
        batch(rows)
        seconds.append(clock() - began)
    return seconds[1:]
