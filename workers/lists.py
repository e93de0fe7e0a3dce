"""The Redis lists of envelopes: pushing onto them, popping bunches from them, looking at their heads."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from shunter.storage import wake
from shunter.storage.envelope import (
    PRIORITY_STEPS,
    SEPARATOR,
    Envelope,
    by_list,
    decode,
    queue_of,
)
from shunter.storage.errors import EnvelopeError, QueueUnavailable
from shunter.storage.settings import redact
from shunter.workers.transport import BUNCH_PREFIX, INDEX_KEY, OUTAGES, STALE_S, connect, script

Answer = TypeVar("Answer")

HEAD_DEPTH = 16
"""How far into a list the relay looks for an envelope whose age it can read."""

LEAST_SHARE = 8
"""Each waiting class gets at least one in so many envelopes of a fetch."""


@dataclass(frozen=True, slots=True)
class Bunch:
    """Raw messages popped together, each with its list; they stay in Redis under `key` until acked."""

    key: str
    entries: tuple[tuple[str, bytes], ...]


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

        def push_all(client: Any) -> None:
            pipeline = client.pipeline(transaction=False)
            for key, messages in by_list(envelopes).items():
                pipeline.lpush(key, *messages)
                token_key = wake.key(queue_of(key))
                pipeline.lpush(token_key, wake.TOKEN)
                pipeline.ltrim(token_key, 0, wake.MAX_TOKENS - 1)
            pipeline.execute()

        self._ask(push_all)

    def fetch(self, rooms: Mapping[str, int], acks: Sequence[str] = ()) -> Bunch | None:
        """Drop acked bunches and pop up to `rooms[queue]` envelopes of each queue, in one round trip."""
        key = BUNCH_PREFIX + secrets.token_hex(12)
        keys = [list_ for queue in rooms for list_ in lists_of(queue)]
        shares = [number for room in rooms.values() for number in (room, *least_shares(room))]

        def exchange(client: Any) -> list[bytes]:
            pipeline = client.pipeline(transaction=False)
            _drop(pipeline, acks)
            if rooms:
                arguments = [INDEX_KEY, key, *keys, len(PRIORITY_STEPS), *shares]
                pipeline.eval(self._fetch, 2 + len(keys), *arguments)
            answers = pipeline.execute()
            return list(answers[-1]) if rooms else []

        flat = self._ask(exchange)
        entries = zip(flat[::2], flat[1::2], strict=True)
        return Bunch(key, tuple((name.decode(), raw) for name, raw in entries)) if flat else None

    def give_back(self, bunches: Sequence[str]) -> int:
        """Put these bunches back at the head of their lists; returns how many envelopes that were."""
        if not bunches:
            return 0
        return self._ask(
            lambda client: int(client.eval(self._give_back, 1 + len(bunches), INDEX_KEY, *bunches, 0))
        )

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


def least_shares(room: int) -> list[int]:
    """What each list of a queue gets at least, if it has so many: a lower class is never starved."""
    return [max(1, room // LEAST_SHARE) if room >= len(PRIORITY_STEPS) else 0] * len(PRIORITY_STEPS)


def _drop(pipeline: Any, bunches: Sequence[str]) -> None:
    if bunches:
        # In this order a kill in between leaves a name without a bunch, never a bunch without a name.
        pipeline.unlink(*bunches)
        pipeline.zrem(INDEX_KEY, *bunches)


def _enqueued_at(raw: bytes | str) -> float | None:
    try:
        return decode(raw).enqueued_at
    except EnvelopeError:
        return None
