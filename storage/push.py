"""How hints enter Redis: envelopes with a token that wakes an idle worker, and the names of ended jobs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    commands: list[tuple[Any, ...]] = []
    for key, messages in by_list(envelopes).items():
        tokens = token_key(queue_of(key))
        commands += [
            ("LPUSH", key, *messages),
            ("LPUSH", tokens, TOKEN),
            ("LTRIM", tokens, 0, MAX_TOKENS - 1),
        ]
    if commands:
        _say(client.connection_pool, commands)


def _say(pool: Any, commands: Sequence[tuple[Any, ...]]) -> None:
    """What a pipeline does, in half of its time, which is that of every submit."""
    connection = pool.get_connection()

    def exchange() -> None:
        connection.send_packed_command(connection.pack_commands(commands))
        for _ in commands:
            connection.read_response()

    try:
        connection.retry.call_with_retry(exchange, lambda _: connection.disconnect())
    except BaseException:
        # Answers that nobody reads would be taken for those to the next question.
        connection.disconnect()
        raise
    finally:
        pool.release(connection)


def announce(client: Any, ids: Iterable[UUID]) -> None:
    """Name jobs that have ended; raises what redis-py raises."""
    client.publish(SETTLED_CHANNEL, b"".join(id.bytes for id in ids))


def announced(message: bytes) -> set[UUID]:
    """The jobs that a message names; none if it is not one of ours."""
    starts = range(0, len(message) - ID_BYTES + 1, ID_BYTES)
    return {UUID(bytes=message[start : start + ID_BYTES]) for start in starts}
