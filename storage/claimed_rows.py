"""The rows that a claim returns: one alone as psycopg2 reads it, many by binary COPY.

As a result, bytes come as twice as many characters and each id goes through Python code of its own, which
takes twice as long as what is done here.
Source: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from io import BytesIO
from struct import Struct
from typing import Any

from shunter.storage import copy
from shunter.storage.database import Cursor
from shunter.storage.hub_statements import Statement
from shunter.storage.ids import uuid_of
from shunter.storage.job import ClaimedJob, Priority

_PRIORITIES = tuple(Priority)

# Each field has its length before it, which tells something only of those that are now longer, now NULL.
_ID_TO_EPOCH = Struct("!2x4x16s4xi")
_VERSION_TO_DEATHS = Struct("!4xi4xi4xh4xh4xh")
_QUEUED = Struct("!4xd")
_DEADLINE = Struct("!d")
_LENGTH = Struct("!i")


def fetch_one(cursor: Cursor, statement: Statement) -> list[ClaimedJob]:
    """Say a claim of one job; the job, if it was there to be had."""
    cursor.execute(*statement)
    return [_of_result(row) for row in cursor.fetchall()]


def fetch_many(cursor: Cursor, statement: Statement) -> list[ClaimedJob]:
    """Say a claim of many jobs; those that were there to be had."""
    sql, parameters = statement
    settings, end, claim = sql.rpartition(";")
    copied = cursor.mogrify(f"{settings}{end} COPY ({claim}) TO STDOUT (FORMAT binary)", parameters)
    target = BytesIO()
    cursor.copy_expert(copied, target)
    return list(_of_copy(target.getvalue()))


def _of_result(row: Sequence[Any]) -> ClaimedJob:
    """The columns stand in the order of the fields: dicts would cost more than the rest."""
    block = row[10]
    inline = None if block is None else bytes(block)
    return ClaimedJob._make((*row[:5], _PRIORITIES[row[5]], *row[6:10], inline, row[11]))


def _of_copy(data: bytes) -> Iterator[ClaimedJob]:
    at, end = len(copy.HEADER), len(data) - len(copy.TRAILER)
    while at < end:
        id, epoch = _ID_TO_EPOCH.unpack_from(data, at)
        model, at = _field(data, at + _ID_TO_EPOCH.size)
        version, rows, priority, attempts, deaths = _VERSION_TO_DEATHS.unpack_from(data, at)
        deadline, at = _field(data, at + _VERSION_TO_DEATHS.size)
        (queued_s,) = _QUEUED.unpack_from(data, at)
        block, at = _field(data, at + _QUEUED.size)
        key, at = _field(data, at)
        yield ClaimedJob(
            uuid_of(int.from_bytes(id)),
            epoch,
            _text(model or b""),
            version,
            rows,
            _PRIORITIES[priority],
            attempts,
            deaths,
            None if deadline is None else _DEADLINE.unpack(deadline)[0],
            queued_s,
            block,
            None if key is None else key.decode(),
        )


def _field(data: bytes, at: int) -> tuple[bytes | None, int]:
    """The field that begins there, None for NULL, and where the next one does."""
    (length,) = _LENGTH.unpack_from(data, at)
    start = at + _LENGTH.size
    return (None, start) if length < 0 else (data[start : start + length], start + length)


@lru_cache
def _text(name: bytes) -> str:
    return name.decode()
