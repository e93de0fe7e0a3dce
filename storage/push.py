"""How hints enter Redis: envelopes with a token that wakes an idle worker, and the names of ended jobs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Protocol
from uuid import UUID

import hiredis

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


def pack(*command: str | bytes | int) -> bytes:
    """A command as it is sent."""
    # Its stub knows tuples of one word only.
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]
    return packed


class Pool(Protocol):
    """Where connections to Redis come from."""

    def get_connection(self) -> Any:
        """One that nobody else uses."""

    def release(self, connection: Any) -> None:
        """Nobody uses it any more."""


class KeptConnections:
    """A client's pool without its accounts, and its look at each connection, which take longer than a push.

    A connection that Redis has closed is found out by whoever uses it, and asks once more on another.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self._idle: list[Any] = []

    def get_connection(self) -> Any:
        """The one that was used last, of this process; or a new one, raises what redis-py raises."""
        with suppress(IndexError):
            connection = self._idle.pop()
            if connection.pid == os.getpid():
                return connection
        return self.client.connection_pool.get_connection()

    def release(self, connection: Any) -> None:
        """Keep it for the next one."""
        self._idle.append(connection)


class Exchange:
    """Commands on their way to Redis, whose answers are read later: meanwhile their sender can be at work.

    It does what a pipeline does, in half of its time, which is that of every submit. Raises what redis-py
    raises. Whoever has made one must ask for its answers.
    """

    def __init__(self, pool: Pool, commands: Sequence[bytes]) -> None:
        self._pool = pool
        self._commands = commands
        self._connection = pool.get_connection()
        try:
            self._try(self._say)
        except BaseException:
            self._give_up()
            raise

    def answers(self) -> list[Any]:
        """Redis' answers as they are; raises for a command that it refuses, but those after it are done."""
        try:
            answers: list[Any] = self._try(self._hear)
        except BaseException:
            self._give_up()
            raise
        self._pool.release(self._connection)
        return answers

    def _say(self) -> None:
        self._connection.send_packed_command((b"".join(self._commands),))
        self._said = True

    def _hear(self) -> list[Any]:
        if not self._said:
            self._say()
        # Whatever fails from here on is said again on another connection.
        self._said = False
        return [self._connection.read_response() for _ in self._commands]

    def _try(self, step: Callable[[], Any]) -> Any:
        return self._connection.retry.call_with_retry(step, lambda _: self._connection.disconnect())

    def _give_up(self) -> None:
        # Answers that nobody reads would be taken for those to the next question.
        self._connection.disconnect()
        self._pool.release(self._connection)


def exchange(client: Any, commands: Sequence[tuple[str | bytes | int, ...]]) -> list[Any]:
    """Redis' answers to some commands, in one round trip; raises as an Exchange does."""
    return Exchange(client.connection_pool, [pack(*command) for command in commands]).answers()


def push(client: Any, envelopes: Iterable[Envelope]) -> None:
    """Add envelopes at the tail of their lists in one round trip; raises what redis-py raises."""
    commands = pushes(envelopes)
    if commands:
        Exchange(client.connection_pool, commands).answers()


def pushes(envelopes: Iterable[Envelope]) -> list[bytes]:
    """The commands that add envelopes at the tail of their lists, and wake whoever waits for them."""
    commands: list[bytes] = []
    for key, messages in by_list(envelopes).items():
        commands += (pack("LPUSH", key, *messages), *_wake(queue_of(key)))
    return commands


@lru_cache
def _wake(queue: str) -> tuple[bytes, bytes]:
    tokens = token_key(queue)
    return pack("LPUSH", tokens, TOKEN), pack("LTRIM", tokens, 0, MAX_TOKENS - 1)


def announce(client: Any, ids: Iterable[UUID]) -> None:
    """Name jobs that have ended; raises what redis-py raises."""
    exchange(client, [("PUBLISH", SETTLED_CHANNEL, b"".join(id.bytes for id in ids))])


def announced(message: bytes) -> set[UUID]:
    """The jobs that a message names; none if it is not one of ours."""
    starts = range(0, len(message) - ID_BYTES + 1, ID_BYTES)
    return {UUID(bytes=message[start : start + ID_BYTES]) for start in starts}
