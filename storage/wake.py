"""How a push wakes an idle worker: a token on a short list beside each queue, only a hint."""

from __future__ import annotations

PREFIX = "shunter.wake."
TOKEN = b"1"
MAX_TOKENS = 16
"""More would wake nobody: whoever is awake looks again by itself before it sleeps."""


def key(queue: str) -> str:
    """The list of a queue's tokens."""
    return PREFIX + queue
