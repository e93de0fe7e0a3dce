"""How envelopes enter Redis: onto their lists, with a token that wakes an idle worker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from shunter.storage.envelope import Envelope, by_list, queue_of

TOKEN_PREFIX = "shunter.wake."
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
