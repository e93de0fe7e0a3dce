"""Redis forgets: emptied, restarted from an old copy, or restarted with nothing; Postgres knows every job."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.faults.arena import Arena, arena, size
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(600)

REPAIR_BEGINS_WITHIN_S = 30.0
"""Wanted is 15 s after the loss, or after the list has passed the job's place; a slow machine gets 30."""


def repair_begins(place: Arena, lose: Callable[[], object]) -> float:
    """Lose something; returns how long it took until the first job was given a new envelope for it.

    Counted from the loss or, behind surviving envelopes, from the moment they have all been taken: until
    then nobody can tell a job whose envelope is lost from one whose turn has not come.
    """
    lose()
    lost_at, began = datetime.now(UTC), time.monotonic()
    wait_until(lambda: not place.envelopes(), 120)
    passed = time.monotonic()
    wait_until(lambda: _enqueued_since(place, lost_at), 60)
    took = time.monotonic() - passed
    print(f"measured: the surviving envelopes were taken after {passed - began:.1f} s")
    return took


def wait_for_share(place: Arena, share: float) -> None:
    """Until this part of the jobs has ended."""
    wait_until(lambda: place.done() >= share * len(place.sent), 120)


def _enqueued_since(place: Arena, moment: datetime) -> bool:
    return bool(place.ask("SELECT exists (SELECT FROM jobs WHERE enqueued_at > %s)", (moment,))[0][0])


def test_a_run_whose_redis_is_flushed_ends_whole(tmp_path: Path) -> None:
    jobs, moments = size(2000, 20_000), [0.1, 0.4, 0.7][: size(1, 3)]
    with arena(tmp_path, row_s=0.002, max_rows=32) as place:
        place.submit(jobs)
        for _ in range(2):
            place.start_hub()
        for moment in moments:
            wait_for_share(place, moment)
            took = repair_begins(place, place.flush_redis)
            print(f"measured: flushed at {moment:.0%}: repair began after {took:.1f} s")
            assert took < REPAIR_BEGINS_WITHIN_S
        place.wait(timeout_s=120)
        assert place.tally().sound


@pytest.mark.full
def test_a_run_whose_redis_comes_back_from_an_old_copy_ends_whole(tmp_path: Path) -> None:
    jobs = size(800, 10_000)
    with arena(tmp_path, row_s=0.002, max_rows=32) as place:
        place.submit(jobs)
        before = place.snapshot_redis()
        place.start_hub()
        wait_for_share(place, 0.25)
        later = place.submit(jobs)
        took = repair_begins(place, lambda: place.lose_redis(before))
        print(f"measured: an old copy was restored: repair began after {took:.1f} s")
        assert took < REPAIR_BEGINS_WITHIN_S
        place.wait(timeout_s=120)
        assert place.tally().sound
        assert place.tally(later).sound


@pytest.mark.full
def test_a_run_whose_redis_is_killed_and_has_kept_nothing_ends_whole(tmp_path: Path) -> None:
    jobs = size(2500, 10_000)
    with arena(tmp_path, row_s=0.002, max_rows=32, persistence=False) as place:
        place.submit(jobs)
        place.start_hub()
        wait_for_share(place, 0.25)
        took = repair_begins(place, place.lose_redis)
        print(f"measured: killed without persistence: repair began after {took:.1f} s")
        assert took < REPAIR_BEGINS_WITHIN_S
        place.wait(timeout_s=120)
        assert place.tally().sound
