"""What several files of these tests begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shunter.storage import failpoints
from tests.schedule_fleet import NOON, ScheduleFleet, schedule_fleet
from tests.scoring_fleet import scoring_fleet


@pytest.fixture
def nightly_fleet(
    database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ScheduleFleet]:
    """A fleet without schedules, at noon."""
    with (
        scoring_fleet(database_url, redis_url, tmp_path) as scoring,
        schedule_fleet(scoring, monkeypatch, NOON) as fleet,
    ):
        yield fleet
    failpoints.arm("")
