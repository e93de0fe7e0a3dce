"""Identifiers: UUIDv7 for whatever is stored in order of time, `{job}.{index}` for items."""

from __future__ import annotations

import os
import re
import threading
import time
from datetime import UTC, datetime
from io import BytesIO
from uuid import UUID, SafeUUID

from shunter.storage.errors import InvalidInput

_RANDOM_BITS = 74
_RAND_B_BITS = 62
_DRAWN_BYTES = 4096
_ITEM_ID = re.compile(
    r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?:\.(0|[1-9][0-9]{0,8}))?", re.IGNORECASE
)


_blank, _fields = object.__new__, vars(UUID)
_set_number, _set_safety = _fields["int"].__set__, _fields["is_safe"].__set__
# Looked up once: an Enum finds its members in Python code.
_UNKNOWN = SafeUUID.unknown


class _Sequence:
    """122-bit numbers, milliseconds then random, each above the one before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0
        self._random = BytesIO()

    def take(self, count: int) -> list[int]:
        """`count` rising numbers."""
        numbers = []
        now_ms = time.time_ns() // 1_000_000
        with self._lock:
            drawn = self._draw(16 + 4 * count)
            # Random steps, so that an id does not tell its neighbours.
            steps = memoryview(drawn)[16:].cast("I")
            fresh = now_ms << _RANDOM_BITS | int.from_bytes(drawn[:16]) >> 128 - _RANDOM_BITS
            # Within one millisecond, or after the clock stepped back, go on from the last; overflow carries.
            last = fresh if now_ms > self._last >> _RANDOM_BITS else self._last
            for step in steps:
                last += step + 1
                numbers.append(last)
            self._last = last
        return numbers

    def _draw(self, count: int) -> bytes:
        # To ask the system lets another thread in, and waits until it is through: not for each id.
        drawn = self._random.read(count)
        if len(drawn) < count:
            self._random = BytesIO(os.urandom(max(count, _DRAWN_BYTES)))
            drawn = self._random.read(count)
        return drawn


_sequence = _Sequence()


def _begin_anew() -> None:
    global _sequence  # noqa: PLW0603 - a forked child must share neither the lock nor the last number
    _sequence = _Sequence()


os.register_at_fork(after_in_child=_begin_anew)


def new_id() -> UUID:
    """A new UUIDv7, above every earlier one of this process."""
    return _uuid(_sequence.take(1)[0])


def new_ids(count: int) -> list[UUID]:
    """`count` new UUIDv7, rising; much cheaper than as many calls of `new_id`."""
    return [_uuid(number) for number in _sequence.take(count)]


def _uuid(number: int) -> UUID:
    high, low = number >> _RAND_B_BITS, number & (1 << _RAND_B_BITS) - 1
    return uuid_of((high >> 12) << 80 | 0x7 << 76 | (high & 0xFFF) << 64 | 0b10 << 62 | low)


def uuid_of(number: int) -> UUID:
    """The UUID of a number that is known to be one: a quarter of the time of `UUID(int=number)`."""
    id = _blank(UUID)
    _set_number(id, number)
    _set_safety(id, _UNKNOWN)
    return id


_HEX = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def read_uuid(text: str) -> UUID:
    """The UUID that a text spells, in any form that UUID takes; ValueError otherwise."""
    # The usual spelling in half the time.
    return uuid_of(int(text.replace("-", ""), 16)) if _HEX.fullmatch(text) else UUID(text)


def created_at(id: UUID) -> datetime:
    """When an id of ours was made, UTC, to the millisecond; InvalidInput for any other kind of UUID."""
    if id.version != 7:
        raise InvalidInput(f"{id} is not an id of Shunter (UUID version 7): check where it comes from")
    try:
        return datetime.fromtimestamp((id.int >> 80) / 1000, UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"{id} is of a time beyond the year 9999: check where it comes from") from error


def item_id(job: UUID, index: int) -> str:
    """The id of one row of a job."""
    return f"{job}.{index}"


def parse_item_id(text: str) -> tuple[UUID, int | None]:
    """The job and the row that an id names, None for the job as a whole; InvalidInput if it is neither."""
    match = _ITEM_ID.fullmatch(text)
    if match is None:
        raise InvalidInput(
            f"{text!r:.80} is no id of a job (a UUID) or an item (job.index): use an id as it was returned"
        )
    index = match[2]
    return UUID(match[1]), None if index is None else int(index)
