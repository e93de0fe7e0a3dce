"""The last decisions about a batch: which rows fit and can be in time, and what made it full; pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from shunter.storage.model_config import Batching
from shunter.workers.batch import CloseReason, Row, TicketT
from shunter.workers.lane import Plan


def within_bytes(rows: list[Row[TicketT]], most: int | None) -> tuple[list[Row[TicketT]], list[Row[TicketT]]]:
    """The rows that take at most so many bytes together, and those to put back; the first one always goes."""
    if most is None:
        return rows, []
    left = most - rows[0].bytes
    for count, row in enumerate(rows[1:], start=1):
        left -= row.bytes
        if left < 0:
            return rows[:count], rows[count:]
    return rows, []


def in_time(
    rows: list[Row[TicketT]], seconds: Callable[[int], float], now: float
) -> tuple[list[Row[TicketT]], list[Row[TicketT]]]:
    """The rows to run now and those to put back, so that the first deadline among them is kept.

    `seconds` predicts a batch of so many rows; a deadline that even one row would miss changes nothing.
    """
    deadlines = [row.ticket.deadline for row in rows if row.ticket.deadline is not None]
    if not deadlines:
        return rows, []
    slack, count = min(deadlines) - now, len(rows)
    if seconds(count) <= slack or seconds(1) > slack:
        return rows, []
    while seconds(count) > slack:
        count -= max(1, count // 8)
    order = sorted(range(len(rows)), key=lambda index: _deadline(rows[index]))
    kept = set(order[:count])
    later = [row for index, row in enumerate(rows) if index not in kept]
    return [rows[index] for index in sorted(kept)], later


def what_filled(rows: Sequence[Row[TicketT]], plan: Plan, limits: Batching) -> CloseReason:
    """Why no further row belongs in a batch that a full lane gave."""
    if len(rows) < plan.limit:
        return CloseReason.TOKENS if limits.packed else CloseReason.PADDING
    tokens = limits.max_tokens
    too_long = plan.pad_to and tokens is not None and (len(rows) + 1) * plan.pad_to > tokens
    return CloseReason.TOKENS if too_long else CloseReason.FULL


def _deadline(row: Row[TicketT]) -> float:
    return inf if row.ticket.deadline is None else row.ticket.deadline
