"""A damaged object ends its scoring when it stays damaged, not when it is looked at fast."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from shunter.workers.damage_count import DAMAGED_READS, REST_S, DamageCount


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def reads(count: DamageCount, clock: Clock, scoring: UUID, *keys: str, every_s: float = REST_S) -> list[bool]:
    """What is said of one read of each key, so many seconds apart."""
    said = []
    for key in keys:
        said.append(count.lasts(scoring, key))
        clock.now += every_s
    return said


def test_the_last_of_reads_that_stand_apart_ends_it(clock: Clock) -> None:
    said = reads(DamageCount(clock), clock, uuid4(), *["a"] * DAMAGED_READS)
    assert said == [False] * (DAMAGED_READS - 1) + [True]


def test_reads_in_quick_succession_count_once(clock: Clock) -> None:
    said = reads(DamageCount(clock), clock, uuid4(), *["a"] * 40, every_s=REST_S / 20)
    assert not any(said)


def test_another_object_begins_anew(clock: Clock) -> None:
    assert not any(reads(DamageCount(clock), clock, uuid4(), *"aabbaabb"))


def test_what_was_read_whole_is_forgotten(clock: Clock) -> None:
    count, scoring = DamageCount(clock), uuid4()
    reads(count, clock, scoring, "a", "a")
    count.forget(scoring)
    assert not any(reads(count, clock, scoring, "a", "a"))
