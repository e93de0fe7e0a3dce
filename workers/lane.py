"""Lanes: rows that may share batches, first come first served within each priority class."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Generic, NamedTuple, Protocol

from shunter.storage.job import Claim, Priority
from shunter.workers.batch import Row, Ticket, TicketT

Seats = Callable[[str, int], int]
"""How many rows a batch of this bucket, padded to this length, may have at most."""

Kept = Callable[[Priority, int], int]
"""How many of so many seats are kept for a class."""

Heads = Mapping[Priority, float]
"""When the oldest row of each class that waits was added."""

ONLY_BUCKET = "rows"
LONGEST_NAME = 40


class Plan(NamedTuple):
    """The batch that a lane would give now: at most `limit` rows, from `least` to `pad_to` long.

    `full` says whether so many rows wait that waiting for more would not make it better.
    """

    bucket: str
    limit: int
    full: bool
    least: int = 0
    pad_to: int = 0


class Lane(Protocol[TicketT]):
    """Rows in line that share one key."""

    key: Hashable
    count: int

    def add(self, rows: Sequence[Row[TicketT]]) -> None:
        """Put rows of one ticket at the end of their line."""

    def put_back(self, rows: Sequence[Row[TicketT]]) -> None:
        """Put rows that were taken last at the head of their lines again."""

    def remove(self, claim: Claim) -> int:
        """Take a job's rows out; returns how many there were."""

    def heads(self) -> Heads:
        """When the oldest row of each class that waits was added."""

    def deadline(self) -> float | None:
        """The first deadline of a row in it."""

    def plan(self, front: Priority, seats: Seats) -> Plan:
        """The batch it would give with this class in front."""

    def take(self, plan: Plan, front: Priority, kept: Kept) -> list[Row[TicketT]]:
        """The rows of a plan: the class in front first, then others by urgency; they keep their seats."""


class Deadlines:
    """The deadlines of the rows in a lane. Nothing is counted for rows without one."""

    def __init__(self) -> None:
        self._rows: dict[float, int] = {}

    def first(self) -> float | None:
        return min(self._rows, default=None)

    def came(self, ticket: Ticket, count: int) -> None:
        if ticket.deadline is not None:
            self._rows[ticket.deadline] = self._rows.get(ticket.deadline, 0) + count

    def went(self, rows: Iterable[Row[TicketT]]) -> None:
        if self._rows:
            for row in rows:
                self._one_went(row.ticket.deadline)

    def _one_went(self, deadline: float | None) -> None:
        if deadline is not None:
            self._rows[deadline] -= 1
            if not self._rows[deadline]:
                del self._rows[deadline]


class ShapeLane(Generic[TicketT]):
    """Rows that can be stacked as they are: one line for each class."""

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.count = 0
        self._bucket = bucket_of(key)
        self._lines: dict[Priority, deque[Row[TicketT]]] = {}
        self._deadlines = Deadlines()

    def add(self, rows: Sequence[Row[TicketT]]) -> None:
        ticket = rows[0].ticket
        self._lines.setdefault(ticket.priority, deque()).extend(rows)
        self._deadlines.came(ticket, len(rows))
        self.count += len(rows)

    def put_back(self, rows: Sequence[Row[TicketT]]) -> None:
        for row in reversed(rows):
            self._lines.setdefault(row.ticket.priority, deque()).appendleft(row)
            self._deadlines.came(row.ticket, 1)
        self.count += len(rows)

    def remove(self, claim: Claim) -> int:
        gone = [row for line in self._lines.values() for row in line if row.ticket.claim == claim]
        if gone:
            for priority in {row.ticket.priority for row in gone}:
                kept = deque(row for row in self._lines[priority] if row.ticket.claim != claim)
                self._lines[priority] = kept
            self._forget_empty()
            self._went(gone)
        return len(gone)

    def heads(self) -> Heads:
        return {priority: line[0].added_at for priority, line in self._lines.items()}

    def deadline(self) -> float | None:
        return self._deadlines.first()

    def plan(self, front: Priority, seats: Seats) -> Plan:
        limit = seats(self._bucket, 0)
        return Plan(self._bucket, limit, self.count >= limit)

    def take(self, plan: Plan, front: Priority, kept: Kept) -> list[Row[TicketT]]:
        others = sorted(priority for priority in self._lines if priority is not front)
        reserved = {p: min(len(self._lines[p]), kept(p, plan.limit)) for p in others}
        rows: list[Row[TicketT]] = []
        for priority in (front, *others):
            later = sum(count for other, count in reserved.items() if other > priority)
            later = later if priority in reserved else sum(reserved.values())
            self._move(rows, self._lines[priority], plan.limit - len(rows) - later)
        self._forget_empty()
        self._went(rows)
        return rows

    def _move(self, rows: list[Row[TicketT]], line: deque[Row[TicketT]], most: int) -> None:
        rows += [line.popleft() for _ in range(min(most, len(line)))]

    def _went(self, rows: Sequence[Row[TicketT]]) -> None:
        self._deadlines.went(rows)
        self.count -= len(rows)

    def _forget_empty(self) -> None:
        if not all(self._lines.values()):
            self._lines = {priority: line for priority, line in self._lines.items() if line}


class PackedLane(ShapeLane[TicketT]):
    """Rows of a model that pays for no padding: `max_tokens` bounds the sum of their lengths."""

    def __init__(self, key: Hashable, *, max_tokens: int) -> None:
        super().__init__(key)
        self._max_tokens = max_tokens
        self._tokens = 0

    def add(self, rows: Sequence[Row[TicketT]]) -> None:
        super().add(rows)
        self._tokens += _tokens(rows)

    def put_back(self, rows: Sequence[Row[TicketT]]) -> None:
        super().put_back(rows)
        self._tokens += _tokens(rows)

    def plan(self, front: Priority, seats: Seats) -> Plan:
        plan = super().plan(front, seats)
        return plan._replace(full=plan.full or self._tokens >= self._max_tokens)

    def _move(self, rows: list[Row[TicketT]], line: deque[Row[TicketT]], most: int) -> None:
        left = self._max_tokens - _tokens(rows)
        for _ in range(min(most, len(line))):
            # A row that is too long by itself goes by itself.
            if line[0].tokens > left and rows:
                return
            row = line.popleft()
            left -= row.tokens
            rows.append(row)

    def _went(self, rows: Sequence[Row[TicketT]]) -> None:
        super()._went(rows)
        self._tokens -= _tokens(rows)


def oldest(lane: Lane[TicketT]) -> float:
    """When the oldest row of a lane was added."""
    return min(lane.heads().values())


def rows_by_class(rows: Iterable[Row[TicketT]]) -> dict[Priority, int]:
    """How many rows of each class there are."""
    counts: dict[Priority, int] = {}
    for row in rows:
        priority = row.ticket.priority
        counts[priority] = counts.get(priority, 0) + 1
    return counts


def bucket_of(key: Hashable) -> str:
    """A short name for a key, the same in every process."""
    if key is None:
        return ONLY_BUCKET
    name = str(key)
    return name if len(name) <= LONGEST_NAME else blake2b(name.encode(), digest_size=8).hexdigest()


def _tokens(rows: Iterable[Row[TicketT]]) -> int:
    return sum(row.tokens for row in rows)
