"""Drift from window to window of a schedule, as its history tells it."""

from __future__ import annotations

from datetime import date
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shunter.producers.schedules.request import DateRange
from tests.schedule_fleet import ScheduleFleet

ROWS = 400


@pytest.fixture
def fleet(nightly_fleet: ScheduleFleet) -> ScheduleFleet:
    return nightly_fleet


def write_day(fleet: ScheduleFleet, day: int, *, moved: float = 0.0) -> None:
    """A day's rows; each day has its own seed."""
    (fleet.scoring.directory / "in").mkdir(exist_ok=True)
    table = pa.table({"x": np.random.default_rng(day).normal(moved, 1.0, ROWS)})
    pq.write_table(table, fleet.scoring.directory / "in" / f"2026-01-0{day}.parquet")


def test_only_the_window_whose_input_differs_has_drifted(fleet: ScheduleFleet) -> None:
    request = {"input": str(fleet.scoring.directory / "in" / "{date}.parquet"), "chunk_rows": 100}
    fleet.scheduler.add("nightly", fleet.definition(request=request))
    for day, moved in ((1, 0.0), (2, 0.0), (3, 2.0), (4, 2.0)):
        write_day(fleet, day, moved=moved)
    fleet.scheduler.backfill("nightly", DateRange(date(2026, 1, 1), date(2026, 1, 4)))
    while fleet.firing.run_once():
        for begun in fleet.scoring.scorer.find():
            if not begun.done:
                fleet.scoring.end(begun)
                fleet.scoring.report()
    # The first has nothing to be compared with, and the fourth is as the third.
    history = fleet.scheduler.history("nightly")[::-1]
    assert [window.drift for window in history] == ["-", "no", "yes", "no"]
    assert history[2].scoring is not None
    drift = fleet.scoring.scorer.report(UUID(history[2].scoring))["drift"]
    assert drift["columns"] == ["input.x", "output.prediction"]
    assert drift["against"]["previous"]["scoring"] == history[1].scoring
