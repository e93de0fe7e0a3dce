"""How much a worker may hold of each priority class; pure.

A class counts what is held of itself and of the more urgent ones, never of the less urgent: bulk rows that
fill a worker do not keep an interactive one waiting in Redis.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from shunter.storage.job import Priority
from shunter.workers.shares import share

LEAST_FETCH = 16
"""Room of less than one such part is left to grow: else each settled job would fetch one."""


class ClassRoom(NamedTuple):
    """How many more of one class may be taken: `room` if nothing more urgent is, `reserved` in any case."""

    room: int
    reserved: int


def class_rooms(credit: int, held: Mapping[Priority, int]) -> dict[Priority, ClassRoom]:
    """The rooms of each class, in rows, for a credit in rows and the rows held of each class."""
    rooms, ahead = {}, 0
    for priority in Priority:
        ahead += held.get(priority, 0)
        reserved = max(0, int(share(priority) * credit) - held.get(priority, 0))
        room = max(reserved, credit - ahead)
        worth_it = room > 0 and room >= credit // LEAST_FETCH
        rooms[priority] = ClassRoom(room, reserved) if worth_it else ClassRoom(0, 0)
    return rooms


def widest(first: ClassRoom, second: ClassRoom) -> ClassRoom:
    """The larger of each: a queue is open for what any version of its model has room for."""
    return ClassRoom(max(first.room, second.room), max(first.reserved, second.reserved))
