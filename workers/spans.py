"""Rows of claimed jobs, named compactly: neighbouring rows of one job are one span; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from shunter.storage.ids import uuid_of
from shunter.storage.job import Claim


class Span(NamedTuple):
    """Rows of one job, from `start` up to, not including, `stop`."""

    claim: Claim
    start: int
    stop: int


Spans = tuple[Span, ...]

BEING_TOLD = 4
"""A batch is announced by one stage after the other, while others are: so many need be read only once."""

_FORMAT = Struct("=16siii")

RowName = tuple[Claim, int]
"""A row: its job's claim, and its index."""


def spans_of(rows: Iterable[RowName]) -> Spans:
    """The same rows in the same order, neighbours joined."""
    spans: list[Span] = []
    last: Claim | None = None
    start = stop = 0
    for claim, index in rows:
        if index == stop and (claim is last or claim == last):
            stop += 1
            continue
        if last is not None:
            spans.append(Span(last, start, stop))
        last, start, stop = claim, index, index + 1
    return (*spans, Span(last, start, stop)) if last is not None else ()


def pack(spans: Spans) -> bytes:
    """The bytes of some spans. Every batch is announced, and pickling 256 claims takes milliseconds."""
    return b"".join(
        [_FORMAT.pack(id.int.to_bytes(16), epoch, start, stop) for (id, epoch), start, stop in spans]
    )


@lru_cache(BEING_TOLD)
def unpack(packed: bytes) -> Spans:
    """What was packed."""
    return tuple(
        Span(Claim(uuid_of(int.from_bytes(id)), epoch), start, stop)
        for id, epoch, start, stop in _FORMAT.iter_unpack(packed)
    )


def rows_of(spans: Iterable[Span]) -> list[RowName]:
    """Every single row."""
    return [(span.claim, index) for span in spans for index in range(span.start, span.stop)]


def claims_of(spans: Iterable[Span]) -> tuple[Claim, ...]:
    """The jobs, each once."""
    return tuple(dict.fromkeys(span.claim for span in spans))


def without(spans: Spans, others: Collection[RowName]) -> Spans:
    """The rows that are not among the others."""
    taken = set(others)
    return spans_of(row for row in rows_of(spans) if row not in taken)


def split(spans: Spans, parts: int) -> list[Spans]:
    """At most `parts` groups of nearly equal size, none of them empty."""
    rows: Sequence[RowName] = rows_of(spans)
    parts = min(parts, len(rows))
    return [
        spans_of(rows[len(rows) * part // parts : len(rows) * (part + 1) // parts]) for part in range(parts)
    ]
