"""What is left of a schedule's windows when their scorings have been forgotten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shunter.storage.job_repair import JobRepair
from shunter.storage.job_retention import Keep
from shunter.storage.scoring.retention import ScoringRetention
from shunter.workers.scoring_retention import ForgetScorings
from tests.schedule_fleet import NOON, ScheduleFleet
from tests.scoring_fleet import write_lines

DAY = timedelta(days=1)


@pytest.fixture
def fleet(nightly_fleet: ScheduleFleet) -> ScheduleFleet:
    return nightly_fleet


def forget(fleet: ScheduleFleet) -> int:
    """Let every scoring that has ended grow older than it is kept, and forget what may go."""
    scoring = fleet.scoring
    with scoring.database.transaction() as cursor:
        cursor.execute("UPDATE scorings SET finished_at = finished_at - interval '1 day'")
    retention = ScoringRetention(scoring.database, scoring.store, Keep(keep_s=60, keep_failed_s=60))
    return ForgetScorings(JobRepair(scoring.database), retention).run_once()


@pytest.mark.parametrize(("line", "rows_of_the_second"), [(b"1", 6), (b"no number", 7)])
def test_files_stay_scored_when_a_scoring_is_forgotten_unless_it_failed(
    fleet: ScheduleFleet, line: bytes, rows_of_the_second: int
) -> None:
    files = str(fleet.scoring.directory / "in" / "*.jsonl")
    definition = fleet.definition(incremental=True, request={"input": files, "max_errors": "0"})
    fleet.scheduler.add("nightly", definition)
    (fleet.scoring.directory / "in").mkdir()
    write_lines(fleet.scoring.directory / "in" / "a.jsonl", [line])
    fleet.set_clock(NOON + DAY)
    fleet.work()
    assert forget(fleet) == 1
    fleet.write_input("b")
    fleet.set_clock(NOON + 2 * DAY)
    fleet.work()
    assert fleet.scoring.scorer.find()[0].total == rows_of_the_second


def test_the_last_window_that_has_a_report_is_kept_for_the_next_while_the_schedule_is_there(
    fleet: ScheduleFleet,
) -> None:
    fleet.scheduler.add("nightly", fleet.definition(cron="0 0 * * 0"))
    for day in (11, 18):
        fleet.write_input(f"2026-01-{day}", rows=50)
        fleet.set_clock(datetime(2026, 1, day, 0, 0, 5, tzinfo=UTC))
        fleet.work()
        fleet.scoring.report()
        assert forget(fleet) == (day == 18)
    assert fleet.window().drift == "no"
    fleet.scheduler.remove("nightly")
    assert forget(fleet) == 1


def test_windows_say_what_became_of_scorings_that_have_been_forgotten(fleet: ScheduleFleet) -> None:
    fleet.scheduler.add("nightly", fleet.definition(request={"max_errors": "0"}))
    (fleet.scoring.directory / "in").mkdir()
    for night, line in (("2026-01-11", b"1"), ("2026-01-12", b"no number")):
        write_lines(fleet.scoring.directory / "in" / f"{night}.jsonl", [line])
    fleet.set_clock(NOON + 2 * DAY)
    fleet.work()
    error = fleet.window().error
    assert forget(fleet) == 2
    assert fleet.history() == [("01-11", "complete"), ("01-12", "failed")]
    assert fleet.window().error == error
    assert fleet.scheduler.run("nightly", again=True).state == "pending"
