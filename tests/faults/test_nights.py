"""Nights in which fleets are killed: each is scored once."""

from __future__ import annotations

from pathlib import Path

import pytest

from shunter.storage import clock, failpoints
from tests.faults.arena import chosen, size
from tests.faults.nights import campaign, report


@pytest.mark.full
@pytest.mark.timeout(900)
def test_each_night_and_each_day_of_a_backfill_is_scored_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(clock.VARIABLE, str(tmp_path / "clock"))
    monkeypatch.setenv(failpoints.CONSENT, "yes")
    rng = chosen()
    season = rng.choice(["spring", "autumn"])
    verdict = campaign(tmp_path, rng, nights=size(3, 20), days=size(2, 30), season=season)
    report(verdict)
    assert verdict.wrong == []
    assert verdict.windows == size(5, 50)
