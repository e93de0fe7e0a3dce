"""How hints enter Redis: envelopes with a token that wakes an idle worker, and the names of ended jobs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from shunter.storage.envelope import Envelope, by_list, queue_of

TOKEN_PREFIX = "shunter.wake."
SETTLED_CHANNEL = "shunter.settled"
"""Names jobs that have just ended, to whoever waits for them now: another hint."""

ID_BYTES = 16
TOKEN = b"1"
MAX_TOKENS = 16
"""More would wake nobody: whoever is awake looks again by itself before it sleeps."""


def token_key(queue: str) -> str:
    """The short list of a queue's wake tokens: a hint, like the rest of Redis."""
    return TOKEN_PREFIX + queue


def push(client: Any, envelopes: Iterable[Envelope]) -> None:
    """Add envelopes at the tail of their lists in one round trip; raises what redis-py raises."""
    pipeline = client.pipeline(transaction=False)
    for key, messages in by_list(envelopes).items():
        pipeline.lpush(key, *messages)
        tokens = token_key(queue_of(key))
        pipeline.lpush(tokens, TOKEN)
        pipeline.ltrim(tokens, 0, MAX_TOKENS - 1)
    pipeline.execute()


def announce(client: Any, ids: Iterable[UUID]) -> None:
    """Name jobs that have ended; raises what redis-py raises."""
    client.publish(SETTLED_CHANNEL, b"".join(id.bytes for id in ids))


def announced(message: bytes) -> set[UUID]:
    """The jobs that a message names; none if it is not one of ours."""
    starts = range(0, len(message) - ID_BYTES + 1, ID_BYTES)
    return {UUID(bytes=message[start : start + ID_BYTES]) for start in starts}
