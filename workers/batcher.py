"""THE micro-batcher: rows of many jobs go in, batches come out, each with the reason it was closed.

    add(rows) -> lane (rows that may share a batch: of one shape, or of any length)
              -> line (one priority, first come first served) -> next_batch(now) -> Batch -> measured(seconds)

Pure: no IO, no threads, no tensors. The clock is an argument, in seconds of one monotonic source.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from itertools import groupby
from math import inf
from operator import attrgetter
from typing import Any, Generic, NamedTuple

from shunter.storage.ceiling import Ceiling, RaisedCeiling
from shunter.storage.job import Claim, Priority
from shunter.storage.model_config import Batching
from shunter.workers.batch import Batch, CloseReason, Row, TicketT, Timing
from shunter.workers.ceilings import Ceilings
from shunter.workers.closing import in_time, what_filled, within_bytes
from shunter.workers.lane import Heads, Lane, PackedLane, Plan, ShapeLane, oldest
from shunter.workers.length_lane import LengthLane
from shunter.workers.shares import Ledger
from shunter.workers.sizing import Sizing

FULL_LEAD_S = 0.05
"""A full batch may go before a partial one of its class that is this much older, which fills meanwhile."""

LULL_S = 0.005
"""How long an idle engine holds a partial batch back while more rows are on their way to it."""

DEADLINE_MARGIN_S = 0.1
"""A waiting batch closes so long before it would have to run for the first deadline in it."""

SURELY = 0.8
"""A job is given up only if a batch that takes this part of what is predicted would still be too late."""


DESTINATION, ADDED_AT, TOKENS = attrgetter("ticket", "key"), attrgetter("added_at"), attrgetter("tokens")


class _Ready(NamedTuple):
    """A lane that can give a batch now; the least goes first."""

    turn: int
    since: float
    name: Hashable
    front: int
    plan: Plan
    reason: CloseReason


class Batcher(Generic[TicketT]):
    """Lanes of rows, and the rule that says which of them becomes a batch, when, and why.

    `limits.max_wait_s` 0 takes what is there whenever the model is idle; more waits for a fuller batch.
    """

    def __init__(
        self, limits: Batching, sizing: Sizing | None = None, ceilings: Ceilings | None = None
    ) -> None:
        self._limits = limits
        self._sizing = sizing or Sizing(limits.max_rows)
        self._ledger = Ledger()
        self._draining = False
        self._lanes: dict[Hashable, Lane[TicketT]] = {}
        self._ceilings = ceilings or Ceilings()

    def __len__(self) -> int:
        return sum(lane.count for lane in self._lanes.values())

    @property
    def bytes(self) -> int:
        """What the rows in line take, as far as they are measured."""
        return sum(lane.bytes for lane in self._lanes.values())

    def holds_urgent(self, since: float) -> bool:
        """Whether a class waits, and not for longer than that, which any other could have to give way to."""
        last = max(Priority)
        heads = (head for lane in self._lanes.values() for head in lane.heads())
        return any(priority < last and came > since for priority, came in heads)

    def add(self, rows: Iterable[Row[TicketT]]) -> None:
        """Put rows at the end of their lines."""
        # Neighbours mostly go to the same line, and looking it up is what costs.
        for (_, key), run in groupby(rows, key=DESTINATION):
            together = list(run)
            lane = self._lanes.get(key)
            if lane is None:
                lane = self._lanes[key] = self._new_lane(key, counted=together[0].tokens > 0)
            lane.add(together)

    def apart(self, rows: Iterable[Row[TicketT]], now: float) -> list[Batch[TicketT]]:
        """Batches of these rows and no others, within the same limits; they take no place in line."""
        beside = copy(self)
        beside._lanes, beside._ledger = {}, Ledger()
        beside.drain()
        beside.add(rows)
        batches = iter(lambda: beside.next_batch(now, idle=True), None)
        return [replace(batch, reason=CloseReason.ALONE, trial=False) for batch in batches]

    def remove(self, claim: Claim) -> int:
        """Take a job's rows out of every lane; returns how many there were."""
        removed = sum(lane.remove(claim) for lane in self._lanes.values())
        self._lanes = {name: lane for name, lane in self._lanes.items() if lane.count}
        return removed

    def drain(self) -> None:
        """From now on close every batch at once."""
        self._draining = True

    def ceiling(self, batch: Batch[TicketT]) -> int | None:
        """How many rows of this kind fit in memory, None if nobody knows."""
        return self._ceilings.limit(batch.bucket, self._length(batch))

    def lower_ceiling(self, batch: Batch[TicketT], rows: int) -> Ceiling | None:
        """Remember that batches of this kind fit in memory only up to `rows` rows; the ceiling, if new."""
        return self._ceilings.lower(batch.bucket, rows, self._length(batch))

    def trial_failed(self, batch: Batch[TicketT]) -> None:
        """A batch that was larger than what is known to fit did not."""
        self._ceilings.trial_failed(batch.bucket, self._length(batch))

    def measured(self, batch: Batch[TicketT], seconds: float) -> RaisedCeiling | None:
        """Learn what a batch took that went through the model whole; the memory ceiling that it raised."""
        rows, length = len(batch.rows), self._length(batch)
        self._sizing.add(batch.bucket, rows=rows, length=length, work=batch.work, seconds=seconds)
        return self._ceilings.fitted(batch.bucket, rows, length)

    def warmed(self, timings: Iterable[Timing]) -> None:
        """Learn what batches took in a warm-up."""
        self._sizing.warmed(timings)

    def costs(self) -> Mapping[str, Any]:
        """What was learnt about cost and size, by bucket, as JSON."""
        return self._sizing.document()

    def least_seconds(self) -> float:
        """What any batch surely takes; 0 while nobody knows."""
        return SURELY * self._sizing.least_seconds()

    def next_batch(
        self, now: float, *, idle: bool, more_coming: bool = False, crowded: bool = False
    ) -> Batch[TicketT] | None:
        """The batch to run next, None if nothing should run yet.

        `idle` says that the model has nothing to do, `more_coming` that rows are being preprocessed,
        `crowded` that nothing more comes into line until a batch has left it.
        """
        heads = {name: lane.heads() for name, lane in self._lanes.items()}
        ready = min(self._ready(heads, now, more_coming, crowded), default=None, key=lambda lane: lane[:2])
        # While the model is busy, the most urgent lane goes on filling; a lesser one must not pass it.
        if ready is None or (not idle and ready.reason is CloseReason.IDLE):
            return None
        waited_s: dict[int, float] = {}
        for lane_heads in heads.values():
            for priority, since in lane_heads:
                waited_s[priority] = max(now - since, waited_s.get(priority, 0.0))
        return self._close(ready, now, waited_s)

    def outranked(self, batch: Batch[TicketT]) -> bool:
        """Whether a class waits that could have had a seat, and did not when the batch was closed."""
        if not self.holds_urgent(batch.closed_at):
            return False
        last = max([row.ticket.priority for row in batch.rows])
        waiting = [head for lane in self._lanes.values() for head in lane.heads() if head[0] < last]
        return bool(waiting) and all(since > batch.closed_at for _, since in waiting)

    def overtake(self, batch: Batch[TicketT], now: float) -> Batch[TicketT] | None:
        """The batch to run instead of one that is closed and not begun, if more urgent rows have come since.

        Whoever loses a seat by that is at the head of the line again.
        """
        if not self.outranked(batch):
            return None
        lane = self._lanes.get(batch.key)
        if lane is None:
            lane = self._lanes[batch.key] = self._new_lane(batch.key, counted=batch.rows[0].tokens > 0)
        lane.put_back(batch.rows)
        self._ledger.undo(batch.owed)
        # They were closed already: nothing of this waits for `max_wait_s` anew, or they would run twice.
        draining, self._draining = self._draining, True
        urgent = self.next_batch(now, idle=True)
        self._draining = draining
        assert urgent is not None, "rows were just put back; this is a bug"
        return urgent if urgent.reason is not CloseReason.DRAIN else replace(urgent, reason=batch.reason)

    def next_deadline(self, now: float) -> float | None:
        """The first moment after `now` at which time alone closes a batch."""
        moments = [moment for lane in self._lanes.values() for moment in self._moments(lane)]
        return min((moment for moment in moments if now < moment < inf), default=None)

    def _length(self, batch: Batch[TicketT]) -> int:
        """What its rows are padded to, 0 if the model pays for no padding."""
        return 0 if self._limits.packed else batch.pad_to

    def _new_lane(self, key: Hashable, *, counted: bool) -> Lane[TicketT]:
        limits = self._limits
        if counted and not limits.packed:
            return LengthLane(key, overhead_tokens=self._sizing.overhead_work)
        if counted and limits.max_tokens:
            return PackedLane(key, max_tokens=limits.max_tokens)
        return ShapeLane(key)

    def _ready(
        self, heads: Mapping[Hashable, Heads], now: float, more_coming: bool, crowded: bool
    ) -> Iterator[_Ready]:
        for name, lane in self._lanes.items():
            turn, since, front = min(
                (-1 if self._ledger.due(priority) else priority, since, priority)
                for priority, since in heads[name]
            )
            plan = lane.plan(front, self._seats)
            # No smaller size is tried at the cost of rows that are more urgent than others here.
            if len(heads[name]) > 1 and plan.limit < lane.waiting(front):
                plan = lane.plan(front, self._seats_at_least)
            reason = self._reason(lane, plan, now, more_coming)
            if crowded and reason in (None, CloseReason.IDLE):
                reason = CloseReason.BYTES
            if reason is not None:
                yield _Ready(turn, since - FULL_LEAD_S * plan.full, name, front, plan, reason)

    def _close(self, ready: _Ready, now: float, waited_s: Mapping[int, float]) -> Batch[TicketT]:
        lane, plan, reason = self._lanes[ready.name], ready.plan, ready.reason
        hurries = lane.deadline() is not None
        taken = lane.take(plan, ready.front, self._ledger.seats)
        rows, too_many = within_bytes(taken, self._limits.max_bytes)
        rows, too_late = self._in_time(rows, plan, now) if hurries else (rows, [])
        if too_late:
            reason = CloseReason.DEADLINE
        elif too_many:
            reason = CloseReason.BYTES
        elif reason is CloseReason.FULL:
            reason = what_filled(rows, plan, self._limits)
        lane.put_back(too_late + too_many)
        if not lane.count:
            del self._lanes[ready.name]
        owed = self._settle(rows, plan, waited_s)
        return self._batch(rows, reason, plan, now, owed=owed)

    def _in_time(
        self, rows: list[Row[TicketT]], plan: Plan, now: float
    ) -> tuple[list[Row[TicketT]], list[Row[TicketT]]]:
        row_work = plan.pad_to or max(1.0, sum(map(TOKENS, rows)) / len(rows))
        return in_time(rows, lambda count: self._sizing.seconds(plan.bucket, count * row_work), now)

    def _batch(
        self, rows: list[Row[TicketT]], reason: CloseReason, plan: Plan, now: float, *, owed: Sequence[float]
    ) -> Batch[TicketT]:
        tokens = sum(map(TOKENS, rows)) if rows[0].tokens else 0
        packed = self._limits.packed
        pad_to = max(map(TOKENS, rows)) if packed else plan.pad_to
        padded = tokens if packed else pad_to * len(rows)
        trial = self._ceilings.closed(plan.bucket, len(rows), 0 if packed else pad_to)
        return Batch(
            rows=rows,
            reason=reason,
            key=rows[0].key,
            bucket=plan.bucket,
            pad_to=pad_to,
            tokens=tokens,
            padded_tokens=padded,
            wait_s=max(0.0, now - min(map(ADDED_AT, rows))),
            limit=plan.limit,
            least_s=SURELY * self._sizing.seconds(plan.bucket, padded or len(rows)),
            closed_at=now,
            owed=owed,
            trial=trial,
        )

    def _settle(
        self, rows: Sequence[Row[TicketT]], plan: Plan, waited_s: Mapping[int, float]
    ) -> Sequence[float]:
        counts = [0] * len(Priority)
        if len(waited_s) == 1:
            counts[next(iter(waited_s))] = len(rows)
        else:
            for row in rows:
                counts[row.ticket.priority] += 1
        return self._ledger.settle(waited_s, [count / plan.limit for count in counts])

    def _reason(self, lane: Lane[TicketT], plan: Plan, now: float, more_coming: bool) -> CloseReason | None:
        if plan.full:
            return CloseReason.FULL
        if self._limits.max_bytes and lane.bytes >= self._limits.max_bytes:
            return CloseReason.BYTES
        if self._draining:
            return CloseReason.DRAIN
        if self._limits.max_wait_s:
            return self._waited(lane, now)
        return None if more_coming and now < oldest(lane) + LULL_S else CloseReason.IDLE

    def _waited(self, lane: Lane[TicketT], now: float) -> CloseReason | None:
        wait, deadline = self._moments(lane)
        if now >= wait:
            return CloseReason.WAIT
        return CloseReason.DEADLINE if now >= deadline else None

    def _moments(self, lane: Lane[TicketT]) -> tuple[float, float]:
        wait = oldest(lane) + (self._limits.max_wait_s or LULL_S)
        deadline = lane.deadline() if self._limits.max_wait_s else None
        return wait, inf if deadline is None else deadline - DEADLINE_MARGIN_S - self._sizing.usual_seconds()

    def _seats(self, bucket: str, pad_to: int) -> int:
        return self._within_limits(self._sizing.rows(bucket, pad_to), bucket, pad_to)

    def _seats_at_least(self, bucket: str, pad_to: int) -> int:
        return self._within_limits(self._sizing.rows_at_least(bucket, pad_to), bucket, pad_to)

    def _within_limits(self, limit: int, bucket: str, pad_to: int) -> int:
        ceiling = self._ceilings.rows(bucket, pad_to)
        if ceiling is not None:
            limit = min(limit, ceiling)
        if pad_to and self._limits.max_tokens:
            limit = min(limit, self._limits.max_tokens // pad_to)
        return max(1, limit)
