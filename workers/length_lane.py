"""The lane of rows that are padded to the longest of their batch: it keeps them sorted by length.

A batch is a contiguous run of lengths around the oldest row of the class in front, so the window in which
similar rows are looked for is all that waits, and the patience of the oldest row is never tried: it is in the
next batch of its class. Of the runs that hold it the one is taken that wastes least per row: on padding, and
on its part of what a batch costs besides its tokens.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, NamedTuple

from shunter.storage.job import Claim, Priority
from shunter.workers.batch import Row, TicketT
from shunter.workers.lane import Deadlines, Heads, Kept, Plan, Seats
from shunter.workers.lengths import bucket_name, fine_length

DEEP = 2
"""With so many times the rows that it may have, a batch of fewer like ones is not worth waiting for."""

Bin = dict[Priority, deque[Row[TicketT]]]
"""The rows of one length, a line for each class."""


class LengthLane(Generic[TicketT]):
    """Rows by length; `overhead_tokens` tells what a batch costs besides its tokens, as so many of them."""

    def __init__(self, key: Hashable, *, overhead_tokens: Callable[[], float]) -> None:
        self.key = key
        self.count = 0
        self._overhead_tokens = overhead_tokens
        self._bins: dict[int, Bin[TicketT]] = {}
        self._lengths: list[int] = []
        self._deadlines = Deadlines()

    def add(self, rows: Sequence[Row[TicketT]]) -> None:
        ticket = rows[0].ticket
        priority = ticket.priority
        for row in rows:
            self._line(fine_length(row.tokens), priority).append(row)
        self._deadlines.came(ticket, len(rows))
        self.count += len(rows)

    def put_back(self, rows: Sequence[Row[TicketT]]) -> None:
        for row in reversed(rows):
            self._line(fine_length(row.tokens), row.ticket.priority).appendleft(row)
            self._deadlines.came(row.ticket, 1)
        self.count += len(rows)

    def remove(self, claim: Claim) -> int:
        gone = []
        for length in list(self._lengths):
            bin_ = self._bins[length]
            for priority, line in list(bin_.items()):
                rows = [row for row in line if row.ticket.claim == claim]
                if rows:
                    gone += rows
                    bin_[priority] = deque(row for row in line if row.ticket.claim != claim)
                    self._forget_empty(length, priority)
        self._went(gone)
        return len(gone)

    def heads(self) -> Heads:
        heads: dict[Priority, float] = {}
        for bin_ in self._bins.values():
            for priority, line in bin_.items():
                head = line[0].added_at
                if head < heads.get(priority, head + 1):
                    heads[priority] = head
        return heads

    def deadline(self) -> float | None:
        return self._deadlines.first()

    def plan(self, front: Priority, seats: Seats) -> Plan:
        lengths = [length for length in self._lengths if front in self._bins[length]]
        lines = [self._bins[length][front] for length in lengths]
        anchor = min(range(len(lines)), key=lambda index: lines[index][0].added_at)
        waiting = _Waiting(lengths, [len(line) for line in lines], anchor, self._overhead_tokens())
        run = _cheapest_run(waiting, seats)
        full = self.count >= DEEP * run.limit or self._alike(run.least, run.pad_to) >= run.limit
        return Plan(bucket_name(run.pad_to), run.limit, full, run.least, run.pad_to)

    def take(self, plan: Plan, front: Priority, kept: Kept) -> list[Row[TicketT]]:
        lengths = self._lengths[: bisect_right(self._lengths, plan.pad_to)]
        alike = lengths[bisect_left(lengths, plan.least) :]
        waiting: dict[Priority, int] = {}
        for length in alike:
            for priority, line in self._bins[length].items():
                waiting[priority] = waiting.get(priority, 0) + len(line)
        others = sorted(priority for priority in waiting if priority is not front)
        reserved = {p: min(waiting[p], kept(p, plan.limit)) for p in others}
        oldest = min(
            (length for length in lengths if front in self._bins[length]),
            key=lambda length: self._bins[length][front][0].added_at,
        )
        rows: list[Row[TicketT]] = []
        self._move(rows, [oldest], front, 1)
        self._move(rows, alike, front, plan.limit - 1 - sum(reserved.values()))
        for priority in others:
            later = sum(count for other, count in reserved.items() if other > priority)
            self._move(rows, alike, priority, plan.limit - len(rows) - later)
        self._went(rows)
        return rows

    def _alike(self, least: int, pad_to: int) -> int:
        start, end = bisect_left(self._lengths, least), bisect_right(self._lengths, pad_to)
        bins = (self._bins[length] for length in self._lengths[start:end])
        return sum(len(line) for bin_ in bins for line in bin_.values())

    def _line(self, length: int, priority: Priority) -> deque[Row[TicketT]]:
        bin_ = self._bins.get(length)
        if bin_ is None:
            bin_ = self._bins[length] = {}
            insort(self._lengths, length)
        line = bin_.get(priority)
        if line is None:
            line = bin_[priority] = deque()
        return line

    def _move(self, rows: list[Row[TicketT]], lengths: Sequence[int], priority: Priority, most: int) -> None:
        """Move rows of a class, the longest first: so that those left out are together at one end."""
        for length in reversed(lengths):
            if most <= 0:
                return
            line = self._bins.get(length, {}).get(priority)
            if line:
                count = min(most, len(line))
                rows += [line.popleft() for _ in range(count)]
                most -= count
                self._forget_empty(length, priority)

    def _forget_empty(self, length: int, priority: Priority) -> None:
        bin_ = self._bins[length]
        if not bin_[priority]:
            del bin_[priority]
        if not bin_:
            del self._bins[length]
            del self._lengths[bisect_left(self._lengths, length)]

    def _went(self, rows: Sequence[Row[TicketT]]) -> None:
        self._deadlines.went(rows)
        self.count -= len(rows)


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
