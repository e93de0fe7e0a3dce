"""What spares producers the timeouts of a silent Redis."""

from __future__ import annotations

from shunter.producers.publisher import Breaker


class Clock:
    """A clock that stands still until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_while_redis_answers_everyone_is_let_through() -> None:
    breaker = Breaker(5.0, Clock())
    assert breaker.closed
    assert [breaker.lets_through() for _ in range(3)] == [True, True, True]


def test_after_an_outage_one_caller_in_each_pause_asks() -> None:
    clock = Clock()
    breaker = Breaker(5.0, clock)
    breaker.failed()
    assert (breaker.closed, breaker.lets_through()) == (False, False)
    clock.now = 5.0
    assert [breaker.lets_through() for _ in range(3)] == [True, False, False]


def test_an_answer_lets_everyone_through_again() -> None:
    clock = Clock()
    breaker = Breaker(5.0, clock)
    breaker.failed()
    clock.now = 5.0
    assert breaker.lets_through()
    breaker.answered()
    assert breaker.closed
    assert breaker.lets_through()
