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
        exchange(client, commands)


def exchange(client: Any, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """What a pipeline does, in half of its time, which is that of every submit; Redis' answers as they are.

    Raises what redis-py raises, also for a command that Redis refuses; those after it are done all the same.
    """
    pool = client.connection_pool
    connection = pool.get_connection()

    def say() -> list[Any]:
        connection.send_packed_command(connection.pack_commands(commands))
        return [connection.read_response() for _ in commands]

    try:
        answers: list[Any] = connection.retry.call_with_retry(say, lambda _: connection.disconnect())
        return answers
    except BaseException:
        # Answers that nobody reads would be taken for those to the next question.
        connection.disconnect()
        raise
    finally:
        pool.release(connection)


def announce(client: Any, ids: Iterable[UUID]) -> None:
    """Name jobs that have ended; raises what redis-py raises."""
    exchange(client, [("PUBLISH", SETTLED_CHANNEL, b"".join(id.bytes for id in ids))])


def announced(message: bytes) -> set[UUID]:
    """The jobs that a message names; none if it is not one of ours."""
    starts = range(0, len(message) - ID_BYTES + 1, ID_BYTES)
    return {UUID(bytes=message[start : start + ID_BYTES]) for start in starts}
