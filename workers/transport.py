"""The fleet's hand on the Redis lists, over whatever kind of URL Celery takes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import kombu
import redis
from kombu.exceptions import OperationalError

from shunter.storage.envelope import PRIORITY_STEPS, Envelope, by_list, decode
from shunter.storage.errors import EnvelopeError, QueueUnavailable
from shunter.storage.settings import redact

HEAD_DEPTH = 16
"""How far into a list the relay looks for an envelope whose age it can read."""

SOCKET_TIMEOUT_S = 5.0

_OUTAGES = (redis.exceptions.RedisError, OperationalError, OSError)


class Lists:
    """Pushes envelopes, and reads the heads of their lists; safe for threads."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._client: redis.Redis | None = None

    def push(self, envelopes: Iterable[Envelope]) -> None:
        """Add envelopes at the tail of their lists; QueueUnavailable leaves it unknown which arrived."""
        try:
            for key, messages in by_list(envelopes).items():
                self._connected().lpush(key, *messages)
        except _OUTAGES as error:
            raise self._outage(error) from error

    def head_enqueued_at(self, key: str) -> float | None:
        """When the next envelope of a list was enqueued, Postgres time; None for an empty list.

        Heads that tell no time, such as a plain Celery producer's, are passed over; if nothing within
        HEAD_DEPTH tells one, the answer is 0: then nothing on this list may be taken as lost.
        """
        try:
            # Consumers pop from the right, so the head of the line is the end of the list.
            raws = self._connected().lrange(key, -HEAD_DEPTH, -1)
        except _OUTAGES as error:
            raise self._outage(error) from error
        times = (_enqueued_at(raw) for raw in reversed(raws))
        return next((time for time in times if time is not None), 0.0) if raws else None

    def length(self, key: str) -> int:
        """How many envelopes a list holds."""
        try:
            return int(self._connected().llen(key))
        except _OUTAGES as error:
            raise self._outage(error) from error

    def _connected(self) -> redis.Redis:
        with self._lock:
            if self._client is None:
                options = {"socket_connect_timeout": SOCKET_TIMEOUT_S, "socket_timeout": SOCKET_TIMEOUT_S}
                client: redis.Redis = kombu.Connection(self._url, transport_options=options).channel().client
                self._client = client
            return self._client

    def _outage(self, error: BaseException) -> QueueUnavailable:
        return QueueUnavailable(f"Redis at {redact(self._url)} does not answer: {error}")


def _enqueued_at(raw: bytes | str) -> float | None:
    try:
        return decode(raw).enqueued_at
    except EnvelopeError:
        return None


class ServingOrder(list[int]):
    """kombu's priority steps: sorted, as kombu looks them up, but gone through in our order of service.

    The base list, where a plain Celery message lands, is our middle class; kombu would serve it first.
    """

    def __init__(self) -> None:
        super().__init__(sorted(PRIORITY_STEPS))

    def __iter__(self) -> Iterator[int]:
        return iter(PRIORITY_STEPS)


def set_paused(channel: Any, queue: str, *, paused: bool) -> None:
    """Leave a queue out of what a kombu Redis channel pops from, or take it in again.

    The consumer stays, unlike after `cancel`: a message that is already on its way is still delivered,
    and Flower and `celery inspect` go on showing the queue.
    """
    active = channel._active_queues
    if paused and queue in active:
        active.remove(queue)
    elif not paused and queue not in active:
        active.append(queue)
    channel._update_queue_cycle()
