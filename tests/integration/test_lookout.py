"""Waiting in a real Redis for a token and what comes with it."""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import redis

from shunter.storage.envelope import Due, decode, list_key, pack, queue_name
from shunter.storage.ids import new_id
from shunter.storage.job import Priority
from shunter.workers.lists import Bunch, Lists
from shunter.workers.lookout import Lookout
from shunter.workers.room import ClassRoom
from shunter.workers.transport import INDEX_KEY

QUEUE, OTHER = queue_name("digits"), queue_name("letters")
LIST = list_key(QUEUE, Priority.STANDARD)
ROOM = dict.fromkeys(Priority, ClassRoom(2, 0))
WITHIN_S = 10.0


@pytest.fixture
def lookout(lists: Lists) -> Iterator[Lookout]:
    with closing(Lookout(lists)) as lookout:
        yield lookout


def push(lists: Lists, count: int = 1) -> list[str]:
    """The ids of so many envelopes of one job, pushed together with one token."""
    due = [Due(new_id(), "digits", 1, 256, Priority.STANDARD) for _ in range(count)]
    lists.push(pack(due, 0.0))
    return [str(one.id) for one in due]


def take(lookout: Lookout, sockets: list[Any]) -> Bunch | None:
    assert select.select(sockets, [], [], WITHIN_S)[0], "no token came"
    return lookout.take()


def ids_of(bunch: Bunch | None) -> list[str]:
    assert bunch is not None
    return [str(decode(raw).ids[0]) for _, raw in bunch.entries]


def test_a_token_brings_what_there_is_room_for(lists: Lists, lookout: Lookout, server: redis.Redis) -> None:
    sockets = lookout.wait_for([QUEUE], {QUEUE: ROOM})
    ids = push(lists, 3)
    bunch = take(lookout, sockets)
    assert ids_of(bunch) == ids[:2]
    assert bunch is not None
    assert (server.exists(bunch.key), server.zcard(INDEX_KEY)) == (1, 1)
    assert lists.length(LIST) == 1


def test_the_next_token_brings_the_next_ones(lists: Lists, lookout: Lookout) -> None:
    for _ in range(3):
        sockets = lookout.wait_for([QUEUE], {QUEUE: ROOM})
        ids = push(lists)
        assert ids_of(take(lookout, sockets)) == ids


def test_without_room_there_is_only_the_token(lists: Lists, lookout: Lookout) -> None:
    sockets = lookout.wait_for([QUEUE], {})
    push(lists)
    assert take(lookout, sockets) is None
    assert lists.length(LIST) == 1


def test_room_that_is_granted_during_the_wait_counts(lists: Lists, lookout: Lookout) -> None:
    lookout.wait_for([QUEUE], {})
    sockets = lookout.wait_for([QUEUE], {QUEUE: ROOM})
    ids = push(lists)
    assert ids_of(take(lookout, sockets)) == ids


def test_a_token_whose_envelopes_others_took_brings_nothing(
    lists: Lists, lookout: Lookout, server: redis.Redis
) -> None:
    sockets = lookout.wait_for([QUEUE], {QUEUE: ROOM})
    server.lpush("shunter.wake." + QUEUE, b"1")
    assert take(lookout, sockets) is None
    assert server.zcard(INDEX_KEY) == 0


def test_what_came_when_nobody_looks_any_more_goes_back(
    lists: Lists, lookout: Lookout, server: redis.Redis
) -> None:
    sockets = lookout.wait_for([QUEUE], {QUEUE: ROOM})
    push(lists)
    assert select.select(sockets, [], [], WITHIN_S)[0]
    lookout.close()
    assert lists.length(LIST) == 1
    assert server.zcard(INDEX_KEY) == 0


def test_a_queue_that_is_not_served_any_more_is_left_alone(lists: Lists, lookout: Lookout) -> None:
    lookout.wait_for([QUEUE, OTHER], {QUEUE: ROOM, OTHER: ROOM})
    lookout.stay_within([OTHER])
    push(lists)
    assert lists.length(LIST) == 1
    sockets = lookout.wait_for([QUEUE], {QUEUE: ROOM})
    assert ids_of(take(lookout, sockets))


def test_a_connection_that_breaks_is_replaced(lists: Lists, lookout: Lookout, server: redis.Redis) -> None:
    sockets = lookout.wait_for([QUEUE], {QUEUE: ROOM})
    server.client_kill_filter(_type="normal", skipme=True)
    assert take(lookout, sockets) is None
    sockets = lookout.wait_for([QUEUE], {QUEUE: ROOM})
    ids = push(lists)
    assert ids_of(take(lookout, sockets)) == ids
