"""Open connections to Postgres, to be used again: the way to one is so short that no statement feels it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg2

Connection = psycopg2.extensions.connection


class Connections:
    """At most so many at once, of which `kept` stay open when nobody uses them; safe for threads.

    The one that was used last is used first: its server process is awake, and has its caches still.
    """

    def __init__(
        self, connect: Callable[[], Connection], *, kept: int, most: int, wait_s: float = 30.0
    ) -> None:
        self._connect = connect
        self._kept = kept
        self._most = most
        self._wait_s = wait_s
        self._idle: list[Connection] = []
        self._used = 0
        self._closed = False
        self._returned = threading.Condition(threading.Lock())

    def take(self) -> Connection:
        """One for the caller alone; raises what connecting raises, OperationalError if all are in use."""
        with self._returned:
            if self._used >= self._most and not self._returned.wait_for(self._any_left, self._wait_s):
                raise psycopg2.OperationalError(
                    f"all {self._most} connections of this process were in use for {self._wait_s:g} s"
                )
            self._used += 1
            if self._idle:
                return self._idle.pop()
        try:
            return self._connect()
        except BaseException:
            self._release()
            raise

    def give_back(self, connection: Connection) -> None:
        """It is used no more, and in no transaction; one that is closed is forgotten."""
        with self._returned:
            keeps = not self._closed and not connection.closed and len(self._idle) < self._kept
            if keeps:
                self._idle.append(connection)
                self._count_down()
        if not keeps:
            connection.close()
            self._release()

    def close(self) -> None:
        """Close what is idle now, and what is in use when it comes back."""
        with self._returned:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _any_left(self) -> bool:
        return self._used < self._most

    def _release(self) -> None:
        with self._returned:
            self._count_down()

    def _count_down(self) -> None:
        self._used -= 1
        self._returned.notify()
