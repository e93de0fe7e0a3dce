"""Lanes: rows that may share batches, first come first served within each priority class."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from hashlib import blake2b
from operator import attrgetter
from typing import Generic, NamedTuple, Protocol

from shunter.storage.job import Claim, Priority
from shunter.workers.batch import Row, TicketT

Seats = Callable[[str, int], int]
"""How many rows a batch of this bucket, padded to this length, may have at most."""

Kept = Callable[[int, int], int]
"""How many of so many seats are kept for a class."""

Heads = Sequence[tuple[int, float]]
"""Each class that waits, and when its oldest row was added."""

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
    bytes: int

    def add(self, rows: Sequence[Row[TicketT]]) -> None:
        """Put rows of one ticket at the end of their line."""

    def put_back(self, rows: Sequence[Row[TicketT]]) -> None:
        """Put rows that were taken last at the head of their lines again."""

    def remove(self, claim: Claim) -> int:
        """Take a job's rows out; returns how many there were."""

    def heads(self) -> Heads:
        """Each class that waits, and when its oldest row was added."""

    def waiting(self, priority: int) -> int:
        """How many rows of a class wait."""

    def deadline(self) -> float | None:
        """The first deadline of a row in it."""

    def plan(self, front: int, seats: Seats) -> Plan:
        """The batch it would give with this class in front."""

    def take(self, plan: Plan, front: int, kept: Kept) -> list[Row[TicketT]]:
        """The rows of a plan: the class in front first, then others by urgency; they keep their seats."""


class Deadlines:
    """The deadlines of the rows in a lane. Nothing is counted for rows without one."""

    def __init__(self) -> None:
        self._rows: dict[float, int] = {}

    def first(self) -> float | None:
        return min(self._rows, default=None)

    def came(self, deadline: float, rows: int) -> None:
        self._rows[deadline] = self._rows.get(deadline, 0) + rows

    def came_back(self, rows: Iterable[Row[TicketT]]) -> None:
        for row in rows:
            if row.ticket.deadline is not None:
                self.came(row.ticket.deadline, 1)

    def went(self, rows: Iterable[Row[TicketT]]) -> None:
        if self._rows:
            for row in rows:
                self._one_went(row.ticket.deadline)

    def _one_went(self, deadline: float | None) -> None:
        if deadline is not None:
            self._rows[deadline] -= 1
            if not self._rows[deadline]:
                del self._rows[deadline]


def shared_out(waiting: Sequence[int], limit: int, front: int, kept: Kept) -> Iterator[tuple[int, int]]:
    """Each class in its turn, with how many rows there may be in the batch once it has been served.

    The class in front comes first, the others by urgency; seats that a class keeps are not given before.
    """
    order = [front, *(priority for priority, count in enumerate(waiting) if count and priority != front)]
    reserved = [min(waiting[priority], kept(priority, limit)) for priority in order[1:]]
    for place, priority in enumerate(order):
        yield priority, limit - sum(reserved[place:])


class ShapeLane(Generic[TicketT]):
    """Rows that can be stacked as they are: one line for each class."""

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.count = self.bytes = 0
        self._bucket = bucket_of(key)
        # By class in a list: what costs in a dict of classes is that an Enum is hashed in Python.
        self._lines: list[deque[Row[TicketT]]] = [deque() for _ in Priority]
        self._deadlines = Deadlines()

    def add(self, rows: Sequence[Row[TicketT]]) -> None:
        ticket = rows[0].ticket
        self._lines[ticket.priority].extend(rows)
        self._came(rows)
        if ticket.deadline is not None:
            self._deadlines.came(ticket.deadline, len(rows))

    def put_back(self, rows: Sequence[Row[TicketT]]) -> None:
        for row in reversed(rows):
            self._lines[row.ticket.priority].appendleft(row)
        self._deadlines.came_back(rows)
        self._came(rows)

    def remove(self, claim: Claim) -> int:
        gone = [row for line in self._lines for row in line if row.ticket.claim == claim]
        if gone:
            for number, line in enumerate(self._lines):
                self._lines[number] = deque(row for row in line if row.ticket.claim != claim)
            self._went(gone)
        return len(gone)

    def heads(self) -> Heads:
        return [(priority, line[0].added_at) for priority, line in enumerate(self._lines) if line]

    def waiting(self, priority: int) -> int:
        return len(self._lines[priority])

    def deadline(self) -> float | None:
        return self._deadlines.first()

    def plan(self, front: int, seats: Seats) -> Plan:
        limit = seats(self._bucket, 0)
        return Plan(self._bucket, limit, self.count >= limit)

    def take(self, plan: Plan, front: int, kept: Kept) -> list[Row[TicketT]]:
        rows: list[Row[TicketT]] = []
        waiting = [len(line) for line in self._lines]
        for priority, most in shared_out(waiting, plan.limit, front, kept):
            # What a class before left over is for those after it.
            self._move(rows, self._lines[priority], most - len(rows))
        self._went(rows)
        return rows

    def _move(self, rows: list[Row[TicketT]], line: deque[Row[TicketT]], most: int) -> None:
        if most >= len(line):
            rows += line
            line.clear()
        else:
            rows += [line.popleft() for _ in range(most)]

    def _came(self, rows: Sequence[Row[TicketT]]) -> None:
        self.count += len(rows)
        self.bytes += bytes_of(rows)

    def _went(self, rows: Sequence[Row[TicketT]]) -> None:
        self._deadlines.went(rows)
        self.count -= len(rows)
        if self.bytes:
            self.bytes -= bytes_of(rows)


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

    def plan(self, front: int, seats: Seats) -> Plan:
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
    return min(since for _, since in lane.heads())


def bucket_of(key: Hashable) -> str:
    """A short name for a key, the same in every process."""
    if key is None:
        return ONLY_BUCKET
    name = str(key)
    return name if len(name) <= LONGEST_NAME else blake2b(name.encode(), digest_size=8).hexdigest()


def bytes_of(rows: Sequence[Row[TicketT]]) -> int:
    """What some rows take together, as far as they are measured."""
    return sum(map(attrgetter("bytes"), rows))


def _tokens(rows: Iterable[Row[TicketT]]) -> int:
    return sum(map(attrgetter("tokens"), rows))
