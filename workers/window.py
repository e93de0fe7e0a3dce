"""Rows of one class that wait, sorted by length; those of one length first come, first served."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Sequence
from operator import attrgetter
from typing import Generic

from shunter.storage.job import Claim
from shunter.workers.batch import Row, TicketT
from shunter.workers.lengths import fine_length

ADDED_AT = attrgetter("added_at")


class Window(Generic[TicketT]):
    """A line for each length; `lengths` are those that have one, ascending."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self._lines: dict[int, deque[Row[TicketT]]] = {}
        self._oldest: Row[TicketT] | None = None

    def add(self, rows: Sequence[Row[TicketT]]) -> None:
        """Put rows at the end of their lines."""
        lines = self._lines
        for row in rows:
            length = fine_length(row.tokens)
            line = lines.get(length)
            if line is None:
                line = self._new_line(length)
            line.append(row)
        self._oldest = None

    def put_back(self, row: Row[TicketT]) -> None:
        """Put a row at the head of its line."""
        length = fine_length(row.tokens)
        (self._lines.get(length) or self._new_line(length)).appendleft(row)
        self._oldest = None

    def oldest(self) -> Row[TicketT]:
        """The row that has waited longest."""
        if self._oldest is None:
            self._oldest = min([self._lines[length][0] for length in self.lengths], key=ADDED_AT)
        return self._oldest

    def counts(self) -> list[int]:
        """How many rows of each length there are."""
        return [len(self._lines[length]) for length in self.lengths]

    def between(self, least: int, most: int) -> int:
        """How many rows are so long."""
        start, end = bisect_left(self.lengths, least), bisect_right(self.lengths, most)
        return sum([len(self._lines[length]) for length in self.lengths[start:end]])

    def pop_oldest(self) -> Row[TicketT]:
        """Take the row that has waited longest."""
        length = fine_length(self.oldest().tokens)
        return self._pop(length, 1)[0]

    def pop(self, least: int, most: int, count: int) -> list[Row[TicketT]]:
        """Take so many rows of these lengths, the longest first: then what is left lies together."""
        rows: list[Row[TicketT]] = []
        start, end = bisect_left(self.lengths, least), bisect_right(self.lengths, most)
        for length in reversed(self.lengths[start:end]):
            if len(rows) >= count:
                break
            rows += self._pop(length, count - len(rows))
        return rows

    def remove(self, claim: Claim) -> list[Row[TicketT]]:
        """Take a job's rows."""
        gone = []
        for length in list(self.lengths):
            rows = [row for row in self._lines[length] if row.ticket.claim == claim]
            if rows:
                gone += rows
                self._lines[length] = deque(row for row in self._lines[length] if row.ticket.claim != claim)
                self._pop(length, 0)
        return gone

    def _pop(self, length: int, count: int) -> list[Row[TicketT]]:
        line = self._lines[length]
        rows = [line.popleft() for _ in range(min(count, len(line)))]
        if not line:
            del self._lines[length]
            del self.lengths[bisect_left(self.lengths, length)]
        self._oldest = None
        return rows

    def _new_line(self, length: int) -> deque[Row[TicketT]]:
        insort(self.lengths, length)
        line = self._lines[length] = deque()
        return line
