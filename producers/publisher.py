"""Envelopes into Redis: the only file of the producers that knows the wire.

kombu makes the connection, so that every URL that Celery takes works here; the envelopes go out by one
variadic LPUSH per list, which moves about twenty times as many as `apply_async`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

import kombu
import redis
from kombu.exceptions import OperationalError

from shunter.storage import wake
from shunter.storage.envelope import Envelope, by_list, queue_of
from shunter.storage.errors import QueueUnavailable
from shunter.storage.settings import redact

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 5.0

_OUTAGES = (redis.exceptions.RedisError, OperationalError, OSError)


class Publisher:
    """A connection to Redis that pushes envelopes; safe for threads, and after a fork."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._lock = threading.Lock()
        self._client: redis.Redis | None = None

    def publish(self, envelopes: Iterable[Envelope]) -> None:
        """Push envelopes onto their lists; QueueUnavailable leaves it unknown which arrived.

        Whoever gets QueueUnavailable need not try again: the relay pushes what is missing.
        """
        try:
            pipeline = self._connected().pipeline(transaction=False)
            for key, messages in by_list(envelopes).items():
                pipeline.lpush(key, *messages)
                token_key = wake.key(queue_of(key))
                pipeline.lpush(token_key, wake.TOKEN)
                pipeline.ltrim(token_key, 0, wake.MAX_TOKENS - 1)
            pipeline.execute()
        except _OUTAGES as error:
            raise QueueUnavailable(f"Redis at {redact(self.url)} does not answer: {error}") from error

    def check(self) -> None:
        """Raise QueueUnavailable unless Redis answers."""
        try:
            self._connected().ping()
        except _OUTAGES as error:
            raise QueueUnavailable(f"Redis at {redact(self.url)} does not answer: {error}") from error

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _connected(self) -> redis.Redis:
        with self._lock:
            if self._client is None:
                options = {"socket_connect_timeout": CONNECT_TIMEOUT_S, "socket_timeout": ANSWER_TIMEOUT_S}
                channel = kombu.Connection(self.url, transport_options=options).channel()
                client: redis.Redis = channel.client
                self._client = client
            return self._client
