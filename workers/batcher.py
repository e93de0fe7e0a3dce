"""THE micro-batcher: rows of many jobs go in, batches come out, each with the reason it was closed.

    add(rows) -> lane (one key: a length or a shape)
              -> line (one priority, first come first served) -> next_batch(now) -> Batch

Pure: no IO, no threads, no tensors. The clock is an argument, in seconds of one monotonic source.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby
from typing import Any, Generic, NamedTuple, TypeVar

from shunter.storage.job import Claim, Priority
from shunter.workers.ceilings import Ceilings

HEAD_START_S: Mapping[Priority, float] = {
    Priority.INTERACTIVE: 0.0,
    Priority.STANDARD: 2.0,
    Priority.BULK: 10.0,
}
"""A class queues as if its rows had come this many seconds later. So no row is ever overtaken by a
row that came more than 10 s after it, and bulk is never starved."""

FULL_LEAD_S = 0.05
"""A full batch may go before a partial one that is this much more urgent: the partial one fills meanwhile."""

LULL_S = 0.005
"""How long an idle engine holds a partial batch back while more rows are on their way to it."""

DEADLINE_MARGIN_S = 0.1
"""A waiting batch closes this long before the first deadline in it."""


class CloseReason(StrEnum):
    """Why a batch was closed."""

    FULL = "full"
    WAIT = "wait"
    DEADLINE = "deadline"
    IDLE = "idle"
    DRAIN = "drain"
    ALONE = "alone"


@dataclass(eq=False)
class Ticket:
    """What the rows of one claimed job share; `deadline` is a moment of the batcher's clock."""

    claim: Claim
    priority: Priority
    deadline: float | None = None


TicketT = TypeVar("TicketT", bound=Ticket)


class Row(NamedTuple, Generic[TicketT]):
    """One preprocessed row in line; rows of equal `key` may share a batch.

    `tokens` is what it costs in a batch of its key, padding included; 0 if the model counts none.
    """

    ticket: TicketT
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks a row for
    value: Any
    added_at: float
    key: Hashable = None
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Batch(Generic[TicketT]):
    """Rows that go through the model in one call; `wait_s` is how long the oldest was in line."""

    rows: Sequence[Row[TicketT]]
    reason: CloseReason
    key: Hashable
    bucket: str
    wait_s: float


class _Lane(Generic[TicketT]):
    """The rows of one key, a line for each priority."""

    def __init__(self, key: Hashable, *, tokens: int) -> None:
        self.key = key
        self.bucket = str(key)
        self.tokens = tokens
        self.count = 0
        self._lines: dict[Priority, deque[Row[TicketT]]] = {}

    def line(self, priority: Priority) -> deque[Row[TicketT]]:
        return self._lines.setdefault(priority, deque())

    def oldest(self) -> float:
        return min(line[0].added_at for line in self._lines.values())

    def urgency(self) -> float:
        return min(_urgency(line[0]) for line in self._lines.values())

    def deadline(self) -> float | None:
        return min((row.ticket.deadline for row in self if row.ticket.deadline is not None), default=None)

    def take(self, limit: int) -> list[Row[TicketT]]:
        rows: list[Row[TicketT]] = []
        while len(rows) < limit and self._lines:
            self._take_run(rows, limit)
        self.count -= len(rows)
        return rows

    def _take_run(self, rows: list[Row[TicketT]], limit: int) -> None:
        """Move rows of the most urgent line for as long as no other line comes first."""
        priority, line = min(self._lines.items(), key=lambda item: _urgency(item[1][0]))
        others = [_urgency(other[0]) for other in self._lines.values() if other is not line]
        if others:
            while line and len(rows) < limit and _urgency(line[0]) <= min(others):
                rows.append(line.popleft())
        else:
            rows += [line.popleft() for _ in range(min(len(line), limit - len(rows)))]
        if not line:
            del self._lines[priority]

    def remove(self, claim: Claim) -> int:
        before = self.count
        kept = {p: deque(row for row in line if row.ticket.claim != claim) for p, line in self._lines.items()}
        self._lines = {priority: line for priority, line in kept.items() if line}
        self.count = sum(map(len, self._lines.values()))
        return before - self.count

    def __iter__(self) -> Iterator[Row[TicketT]]:
        for line in self._lines.values():
            yield from line


def _destination(row: Row[TicketT]) -> tuple[TicketT, Hashable]:
    return row.ticket, row.key


def _urgency(row: Row[Any]) -> float:
    return row.added_at + HEAD_START_S[row.ticket.priority]


class Batcher(Generic[TicketT]):
    """Lanes of rows, and the rule that says which of them becomes a batch, when, and why.

    `max_wait_s` 0 takes what is there whenever the model is idle; more waits for a fuller batch.
    """

    def __init__(
        self,
        *,
        max_rows: int,
        max_tokens: int | None = None,
        max_wait_s: float = 0.0,
        ceilings: Ceilings | None = None,
    ) -> None:
        self.ceilings = ceilings or Ceilings()
        self._max_rows = max_rows
        self._max_tokens = max_tokens
        self._max_wait_s = max_wait_s
        self._draining = False
        self._lanes: dict[Hashable, _Lane[TicketT]] = {}

    def __len__(self) -> int:
        return sum(lane.count for lane in self._lanes.values())

    def add(self, rows: Iterable[Row[TicketT]]) -> None:
        """Put rows at the end of their lines."""
        # Neighbours mostly go to the same line, and looking it up is what costs.
        for (ticket, key), run in groupby(rows, key=_destination):
            batch = list(run)
            lane = self._lanes.get(key)
            if lane is None:
                lane = self._lanes[key] = _Lane(key, tokens=batch[0].tokens)
            lane.line(ticket.priority).extend(batch)
            lane.count += len(batch)

    def apart(self, rows: Iterable[Row[TicketT]], now: float) -> list[Batch[TicketT]]:
        """Batches of these rows and no others, within the same limits; they take no place in line."""
        beside = copy(self)
        beside._lanes = {}
        beside.drain()
        beside.add(rows)
        batches = iter(lambda: beside.next_batch(now, idle=True), None)
        return [replace(batch, reason=CloseReason.ALONE) for batch in batches]

    def remove(self, claim: Claim) -> int:
        """Take a job's rows out of every lane; returns how many there were."""
        removed = sum(lane.remove(claim) for lane in self._lanes.values())
        self._lanes = {key: lane for key, lane in self._lanes.items() if lane.count}
        return removed

    def drain(self) -> None:
        """From now on close every batch at once."""
        self._draining = True

    def next_batch(self, now: float, *, idle: bool, more_coming: bool = False) -> Batch[TicketT] | None:
        """The batch to run next, None if nothing should run yet.

        `idle` says that the model has nothing to do, `more_coming` that rows are being preprocessed.
        """
        ready = []
        for name, lane in self._lanes.items():
            reason = self._reason(lane, now, more_coming)
            if reason is not None:
                lead = FULL_LEAD_S if reason is CloseReason.FULL else 0.0
                ready.append((lane.urgency() - lead, name, reason))
        if not ready:
            return None
        _, name, reason = min(ready, key=lambda entry: entry[0])
        # While the model is busy, the most urgent lane goes on filling; a lesser one must not pass it.
        if not idle and reason is CloseReason.IDLE:
            return None
        return self._close(name, reason, now)

    def next_deadline(self, now: float) -> float | None:
        """The first moment after `now` at which time alone closes a batch."""
        moments = [moment for lane in self._lanes.values() for moment in self._moments(lane)]
        return min((moment for moment in moments if moment > now), default=None)

    def _close(self, name: Hashable, reason: CloseReason, now: float) -> Batch[TicketT]:
        lane = self._lanes[name]
        oldest = lane.oldest()
        rows = lane.take(self._limit(lane))
        if not lane.count:
            del self._lanes[name]
        return Batch(rows, reason, lane.key, lane.bucket, max(0.0, now - oldest))

    def _reason(self, lane: _Lane[TicketT], now: float, more_coming: bool) -> CloseReason | None:
        if lane.count >= self._limit(lane):
            return CloseReason.FULL
        if self._draining:
            return CloseReason.DRAIN
        if self._max_wait_s:
            return self._waited(lane, now)
        return None if more_coming and now < lane.oldest() + LULL_S else CloseReason.IDLE

    def _waited(self, lane: _Lane[TicketT], now: float) -> CloseReason | None:
        if now >= lane.oldest() + self._max_wait_s:
            return CloseReason.WAIT
        deadline = lane.deadline()
        return CloseReason.DEADLINE if deadline is not None and now >= deadline - DEADLINE_MARGIN_S else None

    def _moments(self, lane: _Lane[TicketT]) -> Iterator[float]:
        yield lane.oldest() + (self._max_wait_s or LULL_S)
        deadline = lane.deadline() if self._max_wait_s else None
        if deadline is not None:
            yield deadline - DEADLINE_MARGIN_S

    def _limit(self, lane: _Lane[TicketT]) -> int:
        limit = min(self._max_rows, self.ceilings.limit(lane.bucket, lane.tokens) or self._max_rows)
        if self._max_tokens and lane.tokens:
            limit = min(limit, max(1, self._max_tokens // lane.tokens))
        return limit
