"""The Redis lists of envelopes: pushing onto them, popping bunches from them, looking at their heads."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from shunter.storage.envelope import (
    PRIORITY_STEPS,
    SEPARATOR,
    Envelope,
    decode,
    priority_of,
)
from shunter.storage.errors import EnvelopeError, QueueUnavailable
from shunter.storage.job import Priority
from shunter.storage.push import announce, exchange, push
from shunter.storage.settings import redact
from shunter.workers.room import ClassRoom
from shunter.workers.transport import BUNCH_PREFIX, INDEX_KEY, OUTAGES, STALE_S, connect, script

Answer = TypeVar("Answer")

HEAD_DEPTH = 16
"""How far into a list the relay looks for an envelope whose age it can read."""

Rooms = Mapping[Priority, ClassRoom]
"""The room for envelopes of each class of one queue."""


@dataclass(frozen=True, slots=True)
class Bunch:
    """Raw messages taken together, each with its list.

    They stay in Redis under `key` until acked. A bunch that is not `kept`, because Redis is full, stays on
    its lists: others may take the same messages, which is harmless, as one of them claims each job.
    """

    key: str
    entries: tuple[tuple[str, bytes], ...]
    kept: bool = True


@dataclass(frozen=True, slots=True)
class Pop:
    """The command that pops a bunch, and keeps it under `key`."""

    key: str
    command: tuple[Any, ...]

    def bunch(self, answer: Sequence[Any]) -> Bunch | None:
        """What Redis' answer to it means."""
        kept, *flat = answer
        entries = tuple((name.decode(), raw) for name, raw in zip(flat[::2], flat[1::2], strict=True))
        return Bunch(self.key, entries, bool(kept)) if entries else None


class Lists:
    """One connection pool to Redis, by whatever kind of URL Celery takes; safe for threads."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._client: Any | None = None
        self._fetch = script("fetch")
        self._give_back = script("give_back")

    def push(self, envelopes: Iterable[Envelope]) -> None:
        """Add envelopes at the tail of their lists; QueueUnavailable leaves it unknown which arrived."""
        self._ask(lambda client: push(client, envelopes))

    def announce(self, ids: Iterable[UUID]) -> None:
        """Tell whoever waits that jobs have ended; QueueUnavailable leaves it unknown who heard."""
        self._ask(lambda client: announce(client, ids))

    def push_raw(self, key: str, raw: bytes) -> None:
        """Add a message at the tail of a list as it is; QueueUnavailable leaves it unknown if it arrived."""
        self._ask(lambda client: client.lpush(key, raw))

    def fetch(self, rooms: Mapping[str, Rooms], acks: Sequence[Bunch] = ()) -> Bunch | None:
        """Drop acked bunches and pop what `rooms` has room for from each queue, in one round trip."""
        commands = list(_drop(acks))
        pop = self.pop(rooms) if rooms else None
        if pop is not None:
            commands.append(pop.command)
        answers = self._ask(lambda client: exchange(client, commands)) if commands else []
        return None if pop is None else pop.bunch(answers[-1])

    def pop(self, rooms: Mapping[str, Rooms]) -> Pop:
        """How to pop what `rooms`, at least one, has room for from each queue."""
        key = BUNCH_PREFIX + secrets.token_hex(12)
        keys = [list_ for queue in rooms for list_ in lists_of(queue)]
        limits = [
            limit
            for queue in rooms
            for list_ in lists_of(queue)
            for limit in rooms[queue][priority_of(list_)]
        ]
        arguments = (INDEX_KEY, key, *keys, len(PRIORITY_STEPS), *limits)
        return Pop(key, ("EVAL", self._fetch, 2 + len(keys), *arguments))

    def give_back(self, bunches: Sequence[Bunch]) -> int:
        """Put these bunches back at the head of their lists; returns how many envelopes that were."""
        kept = [bunch.key for bunch in bunches if bunch.kept]
        if not kept:
            return 0
        return self._ask(lambda client: int(client.eval(self._give_back, 1 + len(kept), INDEX_KEY, *kept, 0)))

    def give_back_stale(self, *, after_s: float = STALE_S) -> int:
        """Put back bunches that nobody has acked for so long, by Redis' clock; returns how many envelopes."""
        age_ms = int(after_s * 1000)
        return self._ask(lambda client: int(client.eval(self._give_back, 1, INDEX_KEY, age_ms)))

    def head_enqueued_at(self, key: str) -> float | None:
        """When the next envelope of a list was enqueued, Postgres time; None for an empty list.

        Heads that tell no time, such as a plain Celery producer's, are passed over; if nothing within
        HEAD_DEPTH tells one, the answer is 0: then nothing on this list may be taken as lost.
        """
        # Consumers pop from the right, so the head of the line is the end of the list.
        raws = self._ask(lambda client: client.lrange(key, -HEAD_DEPTH, -1))
        times = (_enqueued_at(raw) for raw in reversed(raws))
        return next((time for time in times if time is not None), 0.0) if raws else None

    def length(self, key: str) -> int:
        """How many envelopes a list holds."""
        return self._ask(lambda client: int(client.llen(key)))

    def connection(self) -> Any:
        """A redis-py connection of its own, for whoever waits on it; QueueUnavailable."""
        return self._ask(lambda client: client.connection_pool.get_connection())

    def close(self) -> None:
        """Close the connections; the next question opens others."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client.connection_pool.disconnect()
                self._client = None

    def _ask(self, question: Callable[[Any], Answer]) -> Answer:
        try:
            return question(self._connected())
        except OUTAGES as error:
            raise QueueUnavailable(f"Redis at {redact(self._url)} does not answer: {error}") from error

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = connect(self._url)
            return self._client


def lists_of(queue: str) -> list[str]:
    """The Redis lists of a queue, in the order in which they are served."""
    return [f"{queue}{SEPARATOR}{step}" if step else queue for step in PRIORITY_STEPS]


def _drop(bunches: Sequence[Bunch]) -> Iterator[tuple[Any, ...]]:
    kept = [bunch.key for bunch in bunches if bunch.kept]
    if kept:
        # In this order a kill in between leaves a name without a bunch, never a bunch without a name.
        yield "UNLINK", *kept
        yield "ZREM", INDEX_KEY, *kept
    for bunch in bunches:
        if not bunch.kept:
            for name, raw in bunch.entries:
                yield "LREM", name, -1, raw


def _enqueued_at(raw: bytes | str) -> float | None:
    try:
        return decode(raw).enqueued_at
    except EnvelopeError:
        return None
