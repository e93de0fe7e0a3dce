"""How long a worker that ends waits for what it has begun."""

from __future__ import annotations

from shunter.workers.draining import DRAIN_GRACE_S, LAST_GRACE_S, Draining


def test_a_worker_that_does_not_end_waits_for_nothing() -> None:
    draining = Draining()
    assert not (draining.begun)
    assert not (draining.overdue(1e9))
    assert not draining.over(1e9, idle=True)


def test_an_idle_worker_ends_at_once_and_a_busy_one_when_its_time_is_up() -> None:
    draining = Draining()
    draining.begin(0.0)
    assert draining.over(0.1, idle=True)
    assert not draining.over(DRAIN_GRACE_S + 1, idle=False)
    assert not draining.overdue(DRAIN_GRACE_S)
    assert draining.overdue(DRAIN_GRACE_S + 1)
    assert draining.over(DRAIN_GRACE_S + LAST_GRACE_S + 1, idle=False)
