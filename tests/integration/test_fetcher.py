"""The hub's reading side of Redis, with a real Redis and queues that come and go."""

from __future__ import annotations

import redis

from shunter.storage.envelope import Due, list_key, pack, queue_name
from shunter.storage.ids import new_id
from shunter.storage.job import Priority
from shunter.workers.fetcher import Fetcher
from shunter.workers.lists import Bunch, Lists
from shunter.workers.room import ClassRoom
from shunter.workers.transport import INDEX_KEY
from tests.waiting import wait_until

QUEUE = queue_name("digits")
LIST = list_key(QUEUE, Priority.STANDARD)
ROOM = dict.fromkeys(Priority, ClassRoom(2, 0))


def push(lists: Lists) -> None:
    lists.push(pack([Due(new_id(), "digits", 1, 1, Priority.STANDARD)], 0.0))


def waits(server: redis.Redis) -> bool:
    """Whether somebody waits for a token."""
    return bool(server.info("clients")["blocked_clients"])


def test_what_comes_for_an_idle_fetcher_is_brought(lists: Lists, server: redis.Redis) -> None:
    brought: list[Bunch] = []
    fetcher = Fetcher(lists, lambda: frozenset({QUEUE}), brought.append)
    try:
        fetcher.grant({QUEUE: ROOM})
        wait_until(lambda: waits(server))
        push(lists)
        wait_until(lambda: brought)
    finally:
        fetcher.stop()
    assert [name for bunch in brought for name, _ in bunch.entries] == [LIST]


def test_what_comes_for_a_queue_that_was_just_left_goes_back(lists: Lists, server: redis.Redis) -> None:
    brought: list[Bunch] = []
    served = {QUEUE}
    fetcher = Fetcher(lists, lambda: frozenset(served), brought.append)
    try:
        fetcher.grant({QUEUE: ROOM})
        wait_until(lambda: waits(server))
        served.clear()
        push(lists)
        wait_until(lambda: (waits(server), server.llen(LIST), server.zcard(INDEX_KEY)) == (False, 1, 0))
    finally:
        fetcher.stop()
    assert brought == []
