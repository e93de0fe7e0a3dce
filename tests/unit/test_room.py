"""How much a worker may hold of each priority class."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shunter.storage.job import Priority
from shunter.workers.room import ClassRoom, class_rooms

INTERACTIVE, STANDARD, BULK = Priority


def test_bulk_that_fills_a_worker_leaves_room_for_what_is_urgent() -> None:
    rooms = class_rooms(800, {BULK: 800})
    assert (rooms[INTERACTIVE].room, rooms[STANDARD].room, rooms[BULK].room) == (800, 800, 0)


def test_what_is_urgent_leaves_the_lower_classes_their_share() -> None:
    rooms = class_rooms(800, {INTERACTIVE: 800})
    assert rooms == {
        INTERACTIVE: ClassRoom(0, 0),
        STANDARD: ClassRoom(100, 100),
        BULK: ClassRoom(100, 100),
    }


def test_little_room_is_left_to_grow() -> None:
    assert class_rooms(800, {INTERACTIVE: 760})[INTERACTIVE] == ClassRoom(0, 0)
    assert class_rooms(800, {INTERACTIVE: 740})[INTERACTIVE] == ClassRoom(60, 0)


@given(
    credit=st.integers(2, 100_000),
    held=st.dictionaries(st.sampled_from(list(Priority)), st.integers(0, 200_000)),
)
def test_no_class_ever_holds_more_than_the_credit(credit: int, held: dict[Priority, int]) -> None:
    for priority, (room, reserved) in class_rooms(credit, held).items():
        assert 0 <= reserved <= room
        assert room == 0 or held.get(priority, 0) + room <= credit
