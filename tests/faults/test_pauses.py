"""What stands still is not dead, and what was given up while it stood still writes nothing any more."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from shunter.storage.worker_registry import LEASE_S
from tests.faults.arena import Arena, Hub, arena, pass_time, size
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(300)


def test_a_postgres_that_stands_still_kills_nobody_and_no_row_runs_twice(tmp_path: Path) -> None:
    with arena(tmp_path, row_s=0.004, max_rows=32) as place:
        hubs = [place.start_hub() for _ in range(2)]
        place.submit(2000)
        wait_until(lambda: place.done() > 100, 60)
        with place.postgres_paused():
            pass_time(size(round(LEASE_S) + 2, 60))
        pass_time(2.5)
        assert {place.incarnation_of(hub.pid) for hub in hubs} == {hub.incarnation for hub in hubs}
        place.wait(timeout_s=120)
        assert place.tally().sound
        assert place.epochs() == {1}
        assert {place.incarnation_of(hub.pid) for hub in hubs} == {hub.incarnation for hub in hubs}


@pytest.mark.full
def test_a_hub_that_stood_still_for_too_long_begins_anew(tmp_path: Path) -> None:
    with arena(tmp_path, row_s=0.02, max_rows=8) as place:
        stunned = place.start_hub()
        first = place.submit(100)
        wait_until(lambda: place.done() > 5, 60)
        stunned.signal(signal.SIGSTOP)
        other = place.start_hub()
        wait_until(lambda: is_given_up(place, stunned), 30)
        stunned.signal(signal.SIGCONT)
        anew = wait_until(lambda: place.incarnation_of(stunned.pid), 30)
        assert anew != stunned.incarnation
        place.wait()
        other.kill()
        second = place.submit(20)
        place.wait()
        assert place.tally(first).sound
        assert place.tally(second).sound
        assert {job.worker for job in place.repository.get_many(second).values()} == {anew}
        assert not stunned.dead


def is_given_up(place: Arena, hub: Hub) -> bool:
    """Whether the fleet has declared this worker dead."""
    return hub.incarnation not in place.registry.beats()
