"""An idle fetcher's wait in Redis: for a token, and for the envelopes that came with it, in one trip."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import redis

from shunter.storage.errors import QueueUnavailable
from shunter.storage.push import token_key
from shunter.workers.lists import Bunch, Lists, Pop, Rooms

TOKEN_WAIT_S = 30


class Lookout:
    """A connection that blocks until a token is pushed for one of the queues, then pops what there is.

    Redis does one command of a connection after the other: a pop that is sent after the question for a token
    is done at the moment of the token, and nobody has to be woken in between. Only for the fetcher's thread.
    """

    def __init__(self, lists: Lists) -> None:
        self._lists = lists
        self._connection: Any = None
        self._asked: Sequence[str] = ()
        self._pop: Pop | None = None
        self._pops_from: frozenset[str] = frozenset()

    def wait_for(self, queues: Sequence[str], rooms: Mapping[str, Rooms]) -> list[Any]:
        """The socket that becomes readable with the next token; none when there is no queue.

        The pop that goes with the token takes what `rooms` has room for. It stays asked for, as it is, until
        there is a token, or `stay_within` leaves it no queue.
        """
        if not queues:
            return []
        if self._connection is None:
            self._connection = self._lists.connection()
        if not self._asked:
            self._connection.send_command("BLPOP", *(token_key(queue) for queue in queues), TOKEN_WAIT_S)
            self._asked = queues
        if rooms and self._pop is None:
            self._pop, self._pops_from = self._lists.pop(rooms), frozenset(rooms)
            self._connection.send_command(*self._pop.command)
        return [self._connection._sock]

    def stay_within(self, queues: Collection[str]) -> None:
        """Nothing may be popped any more but from these queues."""
        if self._pop is not None and not self._pops_from <= set(queues):
            self.close()

    def take(self) -> Bunch | None:
        """Read the token, or the word that none came; and what was popped with it."""
        try:
            self._connection.read_response()
            self._asked = ()
            if self._pop is None:
                return None
            bunch = self._pop.bunch(self._connection.read_response())
            self._pop = None
            return bunch
        except (redis.exceptions.RedisError, OSError):
            self.close()
            return None

    def close(self) -> None:
        """Forget the connection; what it has popped meanwhile goes back. The next wait makes another."""
        if self._connection is not None:
            self._connection.disconnect()
        if self._pop is not None:
            # If Redis does not answer, the bunch goes back like that of any dead worker.
            with suppress(QueueUnavailable):
                self._lists.give_back([Bunch(self._pop.key, ())])
        self._connection, self._asked, self._pop = None, (), None
