"""Envelopes into Redis: the only file of the producers that knows the wire.

kombu makes the connection, so that every URL that Celery takes works here; the envelopes go out by one
variadic LPUSH per list, which moves about twenty times as many as `apply_async`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from uuid import UUID

import kombu
import redis
from kombu.exceptions import OperationalError
from redis.backoff import NoBackoff
from redis.retry import Retry

from shunter.storage.envelope import Envelope
from shunter.storage.errors import QueueUnavailable
from shunter.storage.push import SETTLED_CHANNEL, Exchange, KeptConnections, announced, pushes
from shunter.storage.settings import redact

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 5.0
MAX_CONNECTIONS = 16
"""Pushes under way at once; more wait for their turn."""

LISTEN_S = 0.1
"""How soon a listener notices that nobody listens any more."""

PAUSE_S = 5.0
"""After an outage was met, Redis is asked once in so long."""

_OUTAGES = (redis.exceptions.RedisError, OperationalError, OSError)


class Breaker:
    """Lets one caller in a while find out whether Redis is back, and spares the others its timeouts."""

    def __init__(self, pause_s: float = PAUSE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._pause_s = pause_s
        self._clock = clock
        self._lock = threading.Lock()
        self._open_until: float | None = None

    @property
    def closed(self) -> bool:
        """Whether the last word was that Redis answers."""
        return self._open_until is None

    def lets_through(self) -> bool:
        """Whether this caller may ask; while Redis is silent, one in each pause."""
        if self.closed:
            return True
        with self._lock:
            if self._open_until is None:
                return True
            if self._clock() < self._open_until:
                return False
            self._open_until = self._clock() + self._pause_s
            return True

    def answered(self) -> None:
        """Redis answered."""
        self._open_until = None

    def failed(self) -> None:
        """Redis did not answer."""
        with self._lock:
            self._open_until = self._clock() + self._pause_s


class Push:
    """Envelopes on their way to Redis."""

    def __init__(self, publisher: Publisher, exchange: Exchange) -> None:
        self._publisher = publisher
        self._exchange = exchange

    def close(self) -> None:
        """Read Redis' answer; if there is none, that is logged, and the relay's business."""
        self._publisher._finish(self._exchange)


class Publisher:
    """A connection to Redis that pushes envelopes; safe for threads, and after a fork."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._lock = threading.Lock()
        self._breaker = Breaker()
        # A semaphore is Python code, and takes ten times as long.
        self._leaves: SimpleQueue[None] = SimpleQueue()
        for _ in range(MAX_CONNECTIONS):
            self._leaves.put(None)
        self._connections: KeptConnections | None = None

    @property
    def dispatching(self) -> bool:
        """Whether, as far as this process knows, what is published arrives."""
        return self._breaker.closed

    def publish(self, envelopes: Iterable[Envelope]) -> Push:
        """Send envelopes to their lists; Redis' answer is read when the push is closed, which must be done.

        Raises QueueUnavailable when they cannot be sent, and need not be sent again: the relay pushes what
        is missing. While Redis is silent most calls fail at once, without waiting for a timeout.
        """
        if not self._breaker.lets_through():
            raise QueueUnavailable(f"Redis at {redact(self.url)} did not answer a moment ago")
        self._leaves.get()
        try:
            exchange = Exchange(self._connected(), pushes(envelopes))
        except BaseException as error:
            self._leaves.put(None)
            if isinstance(error, _OUTAGES):
                raise self._failed(error) from error
            raise
        return Push(self, exchange)

    def listen(self, wanted: Callable[[], bool]) -> Iterator[set[UUID]]:
        """The jobs that workers name as just ended, as long as they are wanted; QueueUnavailable."""
        try:
            with self._connected().client.pubsub(ignore_subscribe_messages=True) as channel:
                channel.subscribe(SETTLED_CHANNEL)
                while wanted():
                    message = channel.get_message(timeout=LISTEN_S)
                    if message is not None:
                        yield announced(message["data"])
        except _OUTAGES as error:
            raise self._outage(error) from error

    def check(self) -> None:
        """Raise QueueUnavailable unless Redis answers."""
        try:
            self._connected().client.ping()
        except _OUTAGES as error:
            self._breaker.failed()
            raise self._outage(error) from error
        self._breaker.answered()

    def look(self) -> None:
        """Find out whether Redis answers, unless it was silent a moment ago; `dispatching` tells."""
        if self._breaker.lets_through():
            with suppress(QueueUnavailable):
                self.check()

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._connections is not None:
                self._connections.client.close()
                self._connections = None

    def _connected(self) -> KeptConnections:
        return self._connections or self._connect()

    def _connect(self) -> KeptConnections:
        with self._lock:
            if self._connections is None:
                options = {
                    "socket_connect_timeout": CONNECT_TIMEOUT_S,
                    "socket_timeout": ANSWER_TIMEOUT_S,
                    "max_connections": MAX_CONNECTIONS + 1,
                }
                channel = kombu.Connection(self.url, transport_options=options).channel()
                client: redis.Redis = channel.client
                # redis-py would try a refused connection again for seconds, with the caller waiting.
                client.set_retry(Retry(NoBackoff(), 1))
                self._connections = KeptConnections(client)
            return self._connections

    def _finish(self, exchange: Exchange) -> None:
        try:
            exchange.answers()
        except _OUTAGES as error:
            self._failed(error)
        else:
            self._breaker.answered()
        finally:
            self._leaves.put(None)

    def _failed(self, error: BaseException) -> QueueUnavailable:
        outage = self._outage(error)
        self._breaker.failed()
        log.warning("what is submitted now is stored, and dispatched later: %s", outage)
        return outage

    def _outage(self, error: BaseException) -> QueueUnavailable:
        return QueueUnavailable(f"Redis at {redact(self.url)} does not answer: {error}")
