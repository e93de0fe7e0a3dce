"""How fast a worker gets through with what it has in hand."""

from __future__ import annotations

from shunter.workers.pace import LOOK_S, Pace


def test_a_pace_is_the_rows_that_leave_in_a_second() -> None:
    pace = Pace()
    pace.look(0, busy=True, now=10.0)
    pace.look(500, busy=True, now=10.0 + 2 * LOOK_S)
    assert pace.rows_per_s == 500 / (2 * LOOK_S)


def test_nothing_is_measured_before_enough_time_has_passed() -> None:
    pace = Pace()
    pace.look(0, busy=True, now=0.0)
    pace.look(500, busy=True, now=LOOK_S / 2)
    assert pace.rows_per_s == 0.0
    pace.look(500, busy=True, now=LOOK_S)
    assert pace.rows_per_s == 500 / LOOK_S


def test_seconds_with_nothing_in_hand_do_not_count() -> None:
    pace = Pace()
    for second in range(4):
        pace.look(100 * second, busy=True, now=float(second))
        pace.look(100 * (second + 1), busy=False, now=second + LOOK_S / 2)
    assert pace.rows_per_s == 100 / (LOOK_S / 2)


def test_a_pace_follows_what_a_worker_does_now() -> None:
    pace = Pace()
    gone = 0
    for look, rows_per_s in enumerate([1000] * 10 + [10_000] * 20):
        pace.look(gone, busy=True, now=float(look))
        gone += rows_per_s
    assert 9_000 < pace.rows_per_s <= 10_000


def test_a_worker_that_does_nothing_has_no_pace() -> None:
    pace = Pace()
    pace.look(0, busy=False, now=0.0)
    pace.look(0, busy=False, now=100.0)
    pace.look(0, busy=True, now=200.0)
    assert pace.rows_per_s == 0.0
