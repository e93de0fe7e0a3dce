"""Where a block of rows or outputs lives: in its database row, or in the object store above a size."""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_hex
from typing import NamedTuple, Self
from uuid import UUID

from shunter.storage.errors import InvalidInput
from shunter.storage.ids import created_at
from shunter.storage.object_store import ObjectStore

INLINE_LIMIT_BYTES = 256 * 1024
"""Larger blocks go to the object store.

Measured on one machine, a block of this size costs Postgres 1.7 ms to write and 0.9 ms to read, an S3 server
4.0 and 1.8 ms. Postgres is the faster one up to about 1 MiB, but each byte is also in its log and backups.
"""

PROCESS_MARK = token_hex(4)
"""In the key of every output that this process writes."""

INPUTS, OUTPUTS = "inputs/", "outputs/"
OBJECT_PREFIXES = (INPUTS, OUTPUTS)
"""What the keys of jobs' objects begin with."""

UUID_CHARS = 36


class _Places(NamedTuple):
    inline: bytes | None
    key: str | None


class Blob(_Places):
    """A stored block: its bytes, or else the key of the object that holds them.

    A tuple, which is made in half of a dataclass' time: every job has a few.
    """

    __slots__ = ()

    def __new__(cls, inline: bytes | None, key: str | None) -> Self:
        if (inline is None) == (key is None):
            raise ValueError("a blob is either inline or in the object store")
        return tuple.__new__(cls, (inline, key))


def store_block(store: ObjectStore, block: bytes, *, key: Callable[[], str]) -> Blob:
    """Keep a block: small ones inline, others under a key, durable before this returns.

    Raises ObjectStoreUnavailable.
    """
    if len(block) <= INLINE_LIMIT_BYTES:
        return Blob(inline=block, key=None)
    name = key()
    store.put(name, block)
    return Blob(inline=None, key=name)


def load_block(store: ObjectStore, blob: Blob) -> bytes:
    """The bytes of a stored block; ObjectNotFound if they are gone, ObjectStoreUnavailable."""
    if blob.inline is not None:
        return blob.inline
    assert blob.key is not None
    return store.get(blob.key)


def input_key(job_id: UUID) -> str:
    """Where a job's large input lives; the day lets retention and people find it."""
    return f"{INPUTS}{_day(job_id)}/{job_id}"


def output_key(job_id: UUID, epoch: int) -> str:
    """Where one claimed run's large output lives: a run that lost its claim can never overwrite another's.

    The epoch alone does not tell two runs apart if Postgres crashed and forgot the first one's claim.
    """
    return f"{OUTPUTS}{_day(job_id)}/{job_id}/{epoch}-{PROCESS_MARK}"


def job_of(key: str) -> UUID | None:
    """The job whose input or output lies under this key; None if the key is none of ours."""
    parts = key.split("/")
    if len(parts) != (4 if f"{parts[0]}/" == OUTPUTS else 3):
        return None
    try:
        return UUID(parts[2][:UUID_CHARS])
    except ValueError:
        return None


def _day(job_id: UUID) -> str:
    try:
        return f"{created_at(job_id):%Y%m%d}"
    except InvalidInput:
        # An adopted Celery task may have any kind of UUID.
        return "other"
