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
from shunter.storage.job import ClaimedJob, Priority, claimed_job

_PRIORITIES = tuple(Priority)

# Each field has its length before it, which tells something only of those that are now longer, now NULL.
_ID_TO_QUEUED = Struct("!2x4x16s4xi4xi4xi4xh4xh4xh4xd")
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
    id, epoch, version, rows, priority, attempts, deaths, queued_s, model, block, key, deadline_in_s = row
    return ClaimedJob(
        id,
        epoch,
        model,
        version,
        rows,
        _PRIORITIES[priority],
        attempts,
        deaths,
        deadline_in_s,
        queued_s,
        None if block is None else bytes(block),
        key,
    )


def _of_copy(data: bytes) -> Iterator[ClaimedJob]:
    at, end = len(copy.HEADER), len(data) - len(copy.TRAILER)
    while at < end:
        fixed = _ID_TO_QUEUED.unpack_from(data, at)
        id, epoch, version, rows, priority, attempts, deaths, queued_s = fixed
        model, at = _field(data, at + _ID_TO_QUEUED.size)
        block, at = _field(data, at)
        key, at = _field(data, at)
        deadline, at = _field(data, at)
        yield claimed_job(
            (
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
        )


def _field(data: bytes, at: int) -> tuple[bytes | None, int]:
    """The field that begins there, None for NULL, and where the next one does."""
    (length,) = _LENGTH.unpack_from(data, at)
    start = at + _LENGTH.size
    return (None, start) if length < 0 else (data[start : start + length], start + length)


@lru_cache
def _text(name: bytes) -> str:
    return name.decode()
