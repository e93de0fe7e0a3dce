"""Popping bunches from a real Redis: in order, by class, and never lost."""

from __future__ import annotations

import redis

from shunter.storage.envelope import Due, decode, list_key, pack, queue_name
from shunter.storage.ids import new_id
from shunter.storage.job import Priority
from shunter.workers.lists import Bunch, Lists
from shunter.workers.room import ClassRoom
from shunter.workers.transport import INDEX_KEY

QUEUE = queue_name("digits")


def push(lists: Lists, count: int, priority: Priority = Priority.STANDARD) -> list[str]:
    """The ids of so many envelopes of one job, in the order in which they are due."""
    ids = [new_id() for _ in range(count)]
    for number, id in enumerate(ids):
        lists.push(pack([Due(id, "digits", 1, 256, priority)], float(number)))
    return [str(id) for id in ids]


def ids_of(bunch: Bunch | None) -> list[str]:
    assert bunch is not None
    return [str(decode(raw).ids[0]) for _, raw in bunch.entries]


def fetch(lists: Lists, room: int, *acks: Bunch) -> Bunch | None:
    return lists.fetch({QUEUE: dict.fromkeys(Priority, ClassRoom(room, room // 8))}, acks)


def test_envelopes_come_in_the_order_of_pushing(lists: Lists) -> None:
    ids = push(lists, 5)
    assert ids_of(fetch(lists, 3)) == ids[:3]
    assert ids_of(fetch(lists, 3)) == ids[3:]
    assert fetch(lists, 3) is None


def test_urgent_ones_come_first_and_lower_classes_get_their_share(lists: Lists) -> None:
    bulk, urgent = push(lists, 20, Priority.BULK), push(lists, 40, Priority.INTERACTIVE)
    assert ids_of(fetch(lists, 16)) == [*urgent[:16], *bulk[:2]]
    assert ids_of(fetch(lists, 32)) == [*urgent[16:], *bulk[2:10]]


def test_a_bunch_stays_until_it_is_acked(lists: Lists, server: redis.Redis) -> None:
    push(lists, 2)
    bunch = fetch(lists, 2)
    assert bunch is not None
    assert (server.exists(bunch.key), server.zcard(INDEX_KEY)) == (1, 1)
    fetch(lists, 1, bunch)
    assert (server.exists(bunch.key), server.zcard(INDEX_KEY)) == (0, 0)


def test_what_is_given_back_is_at_the_head_again(lists: Lists) -> None:
    ids = push(lists, 4)
    bunch = fetch(lists, 2)
    assert bunch is not None
    assert lists.give_back([bunch]) == 2
    assert ids_of(fetch(lists, 4)) == ids


def test_a_stale_bunch_goes_back_whoever_held_it(lists: Lists, server: redis.Redis) -> None:
    ids = push(lists, 3)
    fetch(lists, 2)
    assert lists.give_back_stale() == 0
    assert lists.give_back_stale(after_s=-1) == 2
    assert ids_of(fetch(lists, 4)) == ids


def test_a_late_ack_of_a_bunch_that_went_back_erases_nobody_elses(lists: Lists) -> None:
    ids = push(lists, 1)
    first = fetch(lists, 1)
    lists.give_back_stale(after_s=-1)
    second = fetch(lists, 1)
    assert first is not None
    lists.fetch({}, [first])
    lists.give_back_stale(after_s=-1)
    assert ids_of(second) == ids_of(fetch(lists, 1)) == ids


def test_an_ack_of_a_bunch_that_is_gone_does_nothing(lists: Lists) -> None:
    assert lists.fetch({}, [Bunch("shunter.bunch.gone", ())]) is None


def test_any_bytes_travel_unread(lists: Lists, server: redis.Redis) -> None:
    garbage = [b"", b"\x00\xff", b"{", b"[" * 1000]
    server.lpush(QUEUE, *garbage)
    bunch = fetch(lists, 9)
    assert bunch is not None
    assert [raw for _, raw in bunch.entries] == garbage


def test_scripts_survive_a_flush(lists: Lists, server: redis.Redis) -> None:
    ids = push(lists, 2)
    fetch(lists, 1)
    server.script_flush()
    assert ids_of(fetch(lists, 1)) == ids[1:]


def test_thousands_of_envelopes_fit_into_one_bunch(lists: Lists, server: redis.Redis) -> None:
    server.lpush(QUEUE, *(str(number) for number in range(20_000)))
    bunch = fetch(lists, 20_000)
    assert bunch is not None
    assert [int(raw) for _, raw in bunch.entries] == list(range(20_000))
    assert lists.give_back([bunch]) == 20_000
    assert server.llen(QUEUE) == 20_000


def test_a_full_redis_is_read_and_emptied_instead_of_popped(lists: Lists, server: redis.Redis) -> None:
    ids = push(lists, 4)
    server.config_set("maxmemory-policy", "noeviction")
    server.config_set("maxmemory", 1)
    bunch = fetch(lists, 3)
    assert bunch is not None
    assert (ids_of(bunch), bunch.kept, server.llen(list_key(QUEUE, Priority.STANDARD))) == (ids[:3], False, 4)
    assert ids_of(fetch(lists, 3, bunch)) == ids[3:]


def test_the_head_of_a_list_tells_when_it_was_enqueued(lists: Lists, server: redis.Redis) -> None:
    assert lists.head_enqueued_at(QUEUE) is None
    push(lists, 2)
    assert lists.head_enqueued_at(QUEUE) == 0.0
    fetch(lists, 1)
    assert lists.head_enqueued_at(QUEUE) == 1.0
    server.rpush(QUEUE, b"a plain Celery message")
    assert lists.head_enqueued_at(QUEUE) == 1.0
