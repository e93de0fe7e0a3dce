"""The lane of rows that are padded to the longest of their batch: it keeps them sorted by length.

A batch is a contiguous run of lengths around the oldest row of the class in front, so the window in which
similar rows are looked for is all that waits, and the patience of the oldest row is never tried: it is in the
next batch of its class. Of the runs that hold it the one is taken that wastes least per row: on padding, and
on its part of what a batch costs besides its tokens.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, NamedTuple

from shunter.storage.job import Claim, Priority
from shunter.workers.batch import Row, TicketT
from shunter.workers.lane import Deadlines, Heads, Kept, Plan, Seats, bytes_of, shared_out
from shunter.workers.lengths import bucket_name, fine_length
from shunter.workers.window import Window

DEEP = 2
"""With so many times the rows that it may have, a batch of fewer like ones is not worth waiting for."""


class LengthLane(Generic[TicketT]):
    """Rows by length; `overhead_tokens` tells what a batch costs besides its tokens, as so many of them."""

    def __init__(self, key: Hashable, *, overhead_tokens: Callable[[], float]) -> None:
        self.key = key
        self.count = self.bytes = 0
        self._overhead_tokens = overhead_tokens
        self._windows: list[Window[TicketT]] = [Window() for _ in Priority]
        self._deadlines = Deadlines()

    def add(self, rows: Sequence[Row[TicketT]]) -> None:
        ticket = rows[0].ticket
        self._windows[ticket.priority].add(rows)
        self._came(rows)
        if ticket.deadline is not None:
            self._deadlines.came(ticket.deadline, len(rows))

    def put_back(self, rows: Sequence[Row[TicketT]]) -> None:
        for row in reversed(rows):
            self._windows[row.ticket.priority].put_back(row)
        self._deadlines.came_back(rows)
        self._came(rows)

    def remove(self, claim: Claim) -> int:
        gone = [row for window in self._windows for row in window.remove(claim)]
        self._went(gone)
        return len(gone)

    def heads(self) -> Heads:
        return [(p, window.oldest().added_at) for p, window in enumerate(self._windows) if window.lengths]

    def waiting(self, priority: int) -> int:
        return sum(self._windows[priority].counts())

    def deadline(self) -> float | None:
        return self._deadlines.first()

    def plan(self, front: int, seats: Seats) -> Plan:
        window = self._windows[front]
        anchor = bisect_left(window.lengths, fine_length(window.oldest().tokens))
        run = _cheapest_run(_Waiting(window.lengths, window.counts(), anchor, self._overhead_tokens()), seats)
        full = self.count >= DEEP * run.limit or self._alike(run) >= run.limit
        return Plan(bucket_name(run.pad_to), run.limit, full, run.least, run.pad_to)

    def take(self, plan: Plan, front: int, kept: Kept) -> list[Row[TicketT]]:
        waiting = [window.between(plan.least, plan.pad_to) for window in self._windows]
        rows = [self._windows[front].pop_oldest()]
        for priority, most in shared_out(waiting, plan.limit, front, kept):
            rows += self._windows[priority].pop(plan.least, plan.pad_to, most - len(rows))
        self._went(rows)
        return rows

    def _alike(self, run: _Run) -> int:
        return sum(window.between(run.least, run.pad_to) for window in self._windows)

    def _came(self, rows: Sequence[Row[TicketT]]) -> None:
        self.count += len(rows)
        self.bytes += bytes_of(rows)

    def _went(self, rows: Sequence[Row[TicketT]]) -> None:
        self._deadlines.went(rows)
        self.count -= len(rows)
        if self.bytes:
            self.bytes -= bytes_of(rows)


class _Waiting(NamedTuple):
    """Lengths, ascending, with so many rows of each; the oldest row is one of the anchor's."""

    lengths: Sequence[int]
    counts: Sequence[int]
    anchor: int
    overhead: float


class _Run(NamedTuple):
    """Rows from `least` to `pad_to` long belong together; `waste`: tokens of padding and overhead per row."""

    waste: float
    least: int
    pad_to: int
    limit: int


def _cheapest_run(waiting: _Waiting, seats: Seats) -> _Run:
    """Of all runs that hold a row of the anchor's length, the one with the least waste."""
    best: _Run | None = None
    above = 0
    for top in range(waiting.anchor, len(waiting.lengths)):
        pad_to = waiting.lengths[top]
        limit = seats(bucket_name(pad_to), pad_to)
        if best is not None and 1 + above >= limit:
            break
        run = _run_below(waiting, top, limit)
        if best is None or run.waste < best.waste:
            best = run
        above += waiting.counts[top]
    assert best is not None
    return best


def _run_below(waiting: _Waiting, top: int, limit: int) -> _Run:
    """Go down from the longest for as long as the next row wastes less than the average so far."""
    lengths, counts, anchor, overhead = waiting
    pad_to = lengths[top]
    rows, wasted = 1, overhead + pad_to - lengths[anchor]
    for index in range(top, -1, -1):
        padding = pad_to - lengths[index]
        if rows >= limit or padding * rows > wasted:
            break
        count = min(counts[index] - (index == anchor), limit - rows)
        rows += count
        wasted += count * padding
    return _Run(wasted / rows, pad_to - int(wasted / rows), pad_to, limit)
