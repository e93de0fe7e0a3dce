"""When the relay takes envelopes as lost, and the rescuer workers as dead."""

from __future__ import annotations

from uuid import uuid4

from shunter.workers.relay import SETTLE_IN_S, HeadWatch
from shunter.workers.rescuer import BeatWatch


def test_a_head_counts_only_after_a_whole_window() -> None:
    watch = HeadWatch()
    assert watch.note(100.0, 0.0) is None
    assert watch.note(105.0, SETTLE_IN_S / 2) is None
    assert watch.note(110.0, SETTLE_IN_S) == 100.0


def test_the_horizon_is_the_oldest_head_of_the_window() -> None:
    watch = HeadWatch()
    for second in range(21):
        horizon = watch.note(100.0 + second, float(second))
    assert horizon == 110.0


def test_an_old_head_that_comes_back_holds_the_horizon() -> None:
    watch = HeadWatch()
    watch.note(100.0, 0.0)
    watch.note(50.0, 5.0)
    assert watch.note(110.0, 10.0) == 50.0


def test_a_worker_is_dead_after_a_lease_without_a_beat() -> None:
    watch, worker = BeatWatch(lease_s=10.0), uuid4()
    assert [watch.note({worker: 7}, float(second)) for second in range(10)] == [[]] * 10
    assert watch.note({worker: 7}, 10.0) == [worker]


def test_a_reading_that_was_long_in_coming_proves_no_long_silence() -> None:
    watch, worker = BeatWatch(lease_s=10.0), uuid4()
    watch.note({worker: 7}, 0.0)
    assert watch.note({worker: 7}, 60.0) == []
    assert watch.note({worker: 8}, 61.0) == []
    assert watch.note({worker: 8}, 70.0) == []


def test_any_movement_of_the_counter_is_life() -> None:
    watch, worker = BeatWatch(lease_s=10.0), uuid4()
    for second in range(10):
        watch.note({worker: 7}, float(second))
    assert [watch.note({worker: 8}, 10.0 + second) for second in range(9)] == [[]] * 9


def test_a_failed_reading_restarts_the_watch() -> None:
    watch, worker = BeatWatch(lease_s=10.0), uuid4()
    watch.note({worker: 7}, 0.0)
    watch.restart()
    assert [watch.note({worker: 7}, 60.0 + second) for second in range(10)] == [[]] * 10
    assert watch.note({worker: 7}, 70.0) == [worker]
