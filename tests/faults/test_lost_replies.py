"""The reply to a COMMIT is lost: what was committed is found out, never assumed."""

from __future__ import annotations

from pathlib import Path

import pytest

from shunter.workers.reconciliation import RECONCILE_INTERVAL_S
from tests.faults.arena import Arena, arena, size
from tests.faults.commit_cutter import CommitCutter
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

CLAIM, SETTLE = b"AS hint (id, envelope)", b"AS done (done_id"
SLACK_S = 5.0


def longest_s(place: Arena) -> float:
    """How long the slowest job took, from its commit to its end."""
    return float(
        place.ask("SELECT extract(epoch FROM max(finished_at - created_at))::float8 FROM jobs")[0][0]
    )


def run_with_cuts(place: Arena, marker: bytes) -> None:
    with CommitCutter(place.settings.database_url, marker) as cutter:
        place.start_hub(database_url=cutter.url)
        for _ in range(size(2, 20)):
            cutter.cut_one()
            place.wait(place.submit(5))
            assert not cutter.armed
        wait_until(lambda: place.tally().sound)
    print(f"measured: the slowest job took {longest_s(place):.1f} s")


def test_claims_whose_reply_is_lost_go_back_within_the_reconciliation_interval(tmp_path: Path) -> None:
    with arena(tmp_path) as place:
        run_with_cuts(place, CLAIM)
        assert place.tally().sound
        assert max(place.epochs()) == 2
        assert longest_s(place) < RECONCILE_INTERVAL_S + SLACK_S


def test_settlements_whose_reply_is_lost_are_not_repeated(tmp_path: Path) -> None:
    with arena(tmp_path) as place:
        run_with_cuts(place, SETTLE)
        assert place.tally().sound
        assert place.epochs() == {1}
        assert longest_s(place) < RECONCILE_INTERVAL_S + SLACK_S
