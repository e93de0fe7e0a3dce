"""Windows become scorings, each once: nights, missed nights, missing input, backfills, kills in between."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from shunter.producers.schedules.request import DateRange
from shunter.storage import failpoints
from shunter.storage.database import Database
from shunter.storage.errors import DatabaseUnavailable, InvalidInput, UnknownModel
from shunter.storage.schedules.repository import ScheduleExists, UnknownSchedule
from tests.schedule_fleet import NOON, ScheduleFleet
from tests.scoring_fleet import MODEL, write_lines

DAY = timedelta(days=1)


@pytest.fixture
def fleet(nightly_fleet: ScheduleFleet) -> ScheduleFleet:
    return nightly_fleet


def nightly(fleet: ScheduleFleet, **options: Any) -> None:
    fleet.scheduler.add("nightly", fleet.definition(**options))


def test_each_night_is_scored_once(fleet: ScheduleFleet) -> None:
    nightly(fleet)
    for night in range(11, 14):
        fleet.write_input(f"2026-01-{night}")
        fleet.set_clock(datetime(2026, 1, night, 0, 0, 5, tzinfo=UTC))
        fleet.work()
        fleet.work()
    assert fleet.history() == [(f"01-{night}", "complete") for night in range(11, 14)]
    assert [row["prediction"] for row in fleet.scoring.rows("out/2026-01-12")] == [0, 2, 4, 6, 8, 10]
    scorings = fleet.scoring.scorer.find()
    assert [status.output[-10:] for status in scorings] == ["2026-01-13", "2026-01-12", "2026-01-11"]
    assert fleet.window().succeeded == 6


def test_many_hubs_fire_a_window_once(fleet: ScheduleFleet, database_url: str) -> None:
    nightly(fleet)
    fleet.write_input("2026-01-11")
    fleet.set_clock(NOON + DAY)
    start = threading.Barrier(4)
    database = Database(database_url)

    def fire() -> None:
        hub = fleet.another_hub(database)
        start.wait(30)
        for _ in range(5):
            hub.run_once()

    hubs = [threading.Thread(target=fire) for _ in range(4)]
    for hub in hubs:
        hub.start()
    for hub in hubs:
        hub.join(60)
    database.close()
    assert len(fleet.scoring.scorer.find()) == 1


@pytest.mark.parametrize("point", ["schedule.decided", "schedule.begun"])
def test_a_hub_that_goes_in_between_leaves_what_the_next_round_completes(
    fleet: ScheduleFleet, point: str
) -> None:
    nightly(fleet)
    fleet.write_input("2026-01-11")
    fleet.set_clock(NOON + DAY)
    failpoints.arm(f"{point}=error@1")
    with pytest.raises(DatabaseUnavailable):
        fleet.firing.run_once()
    fleet.work()
    fleet.scoring.end(fleet.scoring.scorer.find()[0])
    assert fleet.history() == [("01-11", "complete")]
    assert len(fleet.scoring.scorer.find()) == 1


def test_missed_nights_are_caught_up_on_in_their_order(fleet: ScheduleFleet) -> None:
    nightly(fleet)
    for night in range(11, 14):
        fleet.write_input(f"2026-01-{night}")
    fleet.set_clock(datetime(2026, 1, 13, 5, tzinfo=UTC))
    fleet.firing.run_once()
    assert fleet.history() == [("01-11", "running"), ("01-12", "pending"), ("01-13", "pending")]
    fleet.scoring.end(fleet.scoring.scorer.find()[0])
    fleet.work()
    assert [state for _, state in fleet.history()] == ["complete"] * 3


def test_a_change_of_the_clocks_costs_no_night_and_doubles_none(fleet: ScheduleFleet) -> None:
    for name, first in (("spring", "2026-03-28T12:00"), ("autumn", "2026-10-24T12:00")):
        began = datetime.fromisoformat(first).replace(tzinfo=UTC)
        fleet.set_clock(began)
        place = str(fleet.scoring.directory / name / "{date}")
        definition = fleet.definition(cron="30 2 * * *", timezone="Europe/Berlin", request={"output": place})
        fleet.scheduler.add(name, definition)
        for minutes in (10 * 60, *range(11 * 60, 16 * 60, 15), 34 * 60, 38 * 60):
            moment = began + timedelta(minutes=minutes)
            fleet.write_input(f"{moment:%Y-%m-%d}")
            fleet.set_clock(moment)
            fleet.work()
        fleet.scheduler.pause(name, paused=True)
    spring = [f"{status.window_start:%d %H:%M}" for status in fleet.scheduler.history("spring")]
    autumn = [f"{status.window_start:%d %H:%M}" for status in fleet.scheduler.history("autumn")]
    assert spring == ["30 00:30", "29 01:00"]
    assert autumn == ["26 01:30", "25 00:30"]
    assert {state for name in ("spring", "autumn") for _, state in fleet.history(name)} == {"complete"}


def test_missing_input_fails_and_says_what_was_looked_for(fleet: ScheduleFleet) -> None:
    nightly(fleet)
    fleet.set_clock(NOON + DAY)
    fleet.work()
    window = fleet.window()
    assert window.state == "failed"
    assert window.error is not None
    assert window.error["code"] == "input_missing"
    assert "in/2026-01-11*.jsonl" in window.error["message"]


def test_input_is_waited_for_as_long_as_the_schedule_says(fleet: ScheduleFleet) -> None:
    nightly(fleet, wait_for_input_s=3600)
    fleet.set_clock(NOON + DAY)
    fleet.work()
    assert fleet.window().state == "pending"
    fleet.set_clock(NOON + DAY + timedelta(minutes=50))
    fleet.write_input("2026-01-11")
    fleet.work()
    assert fleet.window().state == "complete"
    fleet.set_clock(NOON + 2 * DAY)
    fleet.work()
    fleet.set_clock(NOON + 2 * DAY + timedelta(hours=1))
    fleet.work()
    window = fleet.window()
    assert window.error is not None
    assert (window.state, window.error["code"]) == ("failed", "input_missing")
    assert "looked for from 2026-01-12 12:00:00 to 2026-01-12 13:00:00 UTC" in window.error["message"]


def test_a_failed_window_is_tried_again_when_somebody_says_so(fleet: ScheduleFleet) -> None:
    nightly(fleet)
    fleet.set_clock(NOON + DAY)
    fleet.work()
    fleet.write_input("2026-01-11")
    assert fleet.scheduler.run("nightly").state == "failed"
    assert fleet.scheduler.run("nightly", again=True).state == "pending"
    fleet.work()
    assert fleet.history() == [("01-11", "complete")]
    assert fleet.scheduler.run("nightly", again=True).state == "complete"
    fleet.work()
    assert len(fleet.scoring.scorer.find()) == 1


def test_a_cancelled_window_is_scored_anew(fleet: ScheduleFleet) -> None:
    nightly(fleet)
    fleet.write_input("2026-01-11")
    fleet.set_clock(NOON + DAY)
    fleet.firing.run_once()
    begun = fleet.window()
    assert begun.scoring is not None
    fleet.scoring.scorer.cancel(UUID(begun.scoring))
    assert fleet.window().state == "cancelled"
    fleet.scheduler.run("nightly", again=True)
    fleet.work()
    window = fleet.window()
    assert window.state == "complete"
    assert window.scoring != begun.scoring


def test_what_calls_run_on_its_own_fires_no_window_twice(fleet: ScheduleFleet) -> None:
    nightly(fleet)
    fleet.write_input("2026-01-11")
    fleet.set_clock(NOON + DAY)
    for _ in range(3):
        fleet.scheduler.run("nightly")
        fleet.work()
    assert fleet.history() == [("01-11", "complete")]
    assert fleet.window().cause == "run"
    with pytest.raises(InvalidInput, match="no window of nightly begins at"):
        fleet.scheduler.run("nightly", window=NOON)
    with pytest.raises(InvalidInput, match="has not begun"):
        fleet.scheduler.run("nightly", window=NOON + 2 * DAY)


def test_a_backfill_scores_each_day_once_paused_and_resumed(fleet: ScheduleFleet) -> None:
    nightly(fleet)
    for day in range(1, 11):
        fleet.write_input(f"2026-01-{day:02}")
    days = DateRange(date(2026, 1, 1), date(2026, 1, 31))
    assert fleet.scheduler.backfill("nightly", days) == 10
    fleet.firing.run_once()
    assert fleet.scheduler.get("nightly").backfill.running == 1
    fleet.scheduler.pause("nightly", paused=True, backfill_only=True)
    fleet.scoring.end(fleet.scoring.scorer.find()[0])
    assert fleet.firing.run_once() == 0
    fleet.scheduler.pause("nightly", paused=False, backfill_only=True)
    assert fleet.scheduler.backfill("nightly", days) == 0
    fleet.work()
    assert fleet.history() == [(f"01-{day:02}", "complete") for day in range(1, 11)]
    assert len(fleet.scoring.scorer.find(limit=100)) == 10
    with pytest.raises(InvalidInput, match="give past days"):
        fleet.scheduler.backfill("nightly", DateRange(date(2027, 1, 1), date(2027, 1, 2)))


def test_an_incremental_window_scores_only_new_files(fleet: ScheduleFleet) -> None:
    nightly(fleet, incremental=True, request={"input": str(fleet.scoring.directory / "in")})
    fleet.write_input("a")
    for night, files in ((11, ["b"]), (12, []), (13, ["c", "d"])):
        for name in files:
            fleet.write_input(name, rows=night)
        fleet.set_clock(datetime(2026, 1, night, tzinfo=UTC))
        fleet.work()
    assert fleet.history() == [("01-11", "complete"), ("01-12", "skipped"), ("01-13", "complete")]
    assert [status.total for status in fleet.scheduler.history("nightly")] == [26, None, 17]


def test_files_of_a_scoring_that_fails_are_scored_in_the_next_window(fleet: ScheduleFleet) -> None:
    nightly(fleet, incremental=True, request={"input": str(fleet.scoring.directory / "in")})
    fleet.write_input("a")
    fleet.set_clock(NOON + DAY)
    fleet.firing.run_once()
    fleet.scoring.scorer.cancel(UUID(fleet.window().scoring))
    fleet.write_input("b", rows=3)
    fleet.set_clock(NOON + 2 * DAY)
    fleet.work()
    assert [(status.state, status.total) for status in fleet.scheduler.history("nightly")] == [
        ("complete", 9),
        ("cancelled", None),
    ]


def test_a_late_window_is_warned_of_and_goes_first_from_then_on(fleet: ScheduleFleet) -> None:
    nightly(fleet, finish_by="06:00", may_raise_priority=True)
    fleet.write_input("2026-01-11")
    fleet.set_clock(datetime(2026, 1, 11, tzinfo=UTC))
    fleet.firing.run_once()
    fleet.firing.run_once()
    assert fleet.window().warning is None
    fleet.set_clock(datetime(2026, 1, 11, 6, tzinfo=UTC))
    fleet.firing.run_once()
    assert fleet.window().warning == "it has not ended by 2026-01-11 06:00 UTC"
    fleet.scoring.plan()
    assert {job.priority.label for job in fleet.scoring.jobs.find()} == {"standard"}


def test_what_is_wrong_with_one_window_fails_it_alone(fleet: ScheduleFleet) -> None:
    nightly(fleet)
    other = fleet.definition(request={"output": str(fleet.scoring.directory / "other" / "{date}")})
    fleet.scheduler.add("other", other)
    fleet.write_input("2026-01-11")
    (fleet.scoring.directory / "out" / "2026-01-11").mkdir(parents=True)
    write_lines(fleet.scoring.directory / "out" / "2026-01-11" / "mine", [b"1"])
    fleet.set_clock(NOON + DAY)
    fleet.work()
    window = fleet.window()
    assert window.error is not None
    assert (window.state, window.error["code"]) == ("failed", "output_exists")
    assert "`shunter score --force` replaces it" in window.error["message"]
    assert window.scoring is None
    assert fleet.window("other").state == "complete"


def test_what_cannot_be_a_schedule_is_refused_before_it_is_stored(fleet: ScheduleFleet) -> None:
    with pytest.raises(UnknownModel):
        fleet.scheduler.add("nightly", fleet.definition(request={"version": 9}))
    with pytest.raises(InvalidInput, match=r"never fires|no time matches"):
        nightly(fleet, cron="0 0 30 2 *")
    assert fleet.scheduler.find() == []
    nightly(fleet)
    nightly(fleet)
    with pytest.raises(ScheduleExists):
        nightly(fleet, missed="skip")
    assert [status.name for status in fleet.scheduler.find()] == ["nightly"]


def test_a_removed_schedule_fires_no_more_and_its_datasets_stay(fleet: ScheduleFleet) -> None:
    nightly(fleet)
    fleet.write_input("2026-01-11")
    fleet.set_clock(NOON + DAY)
    fleet.work()
    fleet.scheduler.remove("nightly")
    fleet.set_clock(NOON + 2 * DAY)
    assert fleet.firing.run_once() == 0
    assert fleet.scoring.rows("out/2026-01-11")
    with pytest.raises(UnknownSchedule):
        fleet.scheduler.history("nightly")


def test_a_scoring_says_whose_window_it_is(fleet: ScheduleFleet) -> None:
    nightly(fleet)
    fleet.write_input("2026-01-11")
    fleet.set_clock(NOON + DAY)
    fleet.work()
    with fleet.scoring.database.transaction() as cursor:
        cursor.execute("SELECT schedule_name, window_start, spec ->> 'model' FROM scorings")
        assert cursor.fetchall() == [("nightly", datetime(2026, 1, 11, tzinfo=UTC), MODEL)]


def test_a_comparison_with_what_has_no_id_is_refused(fleet: ScheduleFleet) -> None:
    with pytest.raises(InvalidInput, match="'yesterday' is no id"):
        nightly(fleet, request={"compare_to": "yesterday"})


def test_places_are_where_whoever_added_the_schedule_saw_them(
    fleet: ScheduleFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(fleet.scoring.directory)
    nightly(fleet, request={"input": "in/{date:%Y-%m-%d}.jsonl", "output": "out/{date}/"})
    monkeypatch.chdir("/")
    fleet.write_input("2026-01-11")
    fleet.set_clock(NOON + DAY)
    fleet.work()
    assert len(fleet.scoring.rows("out/2026-01-11")) == 6


TABLE = """
DROP SCHEMA IF EXISTS theirs CASCADE; CREATE SCHEMA theirs;
CREATE TABLE theirs.scores (id text PRIMARY KEY, prediction int CONSTRAINT low CHECK (prediction < 20))
"""


def test_windows_go_into_one_table_and_one_that_it_refused_goes_again(
    fleet: ScheduleFleet, database_url: str
) -> None:
    def ask(statement: str) -> None:
        with fleet.scoring.database.transaction() as cursor:
            cursor.execute(statement)

    ask(TABLE)
    nightly(fleet, request={"output": f"{database_url}#theirs.scores", "key": "id", "columns": ["x"]})
    (fleet.scoring.directory / "in").mkdir()
    for night, x in (("2026-01-11", 7), ("2026-01-12", 70)):
        line = b'{"id": "%s", "x": %d}' % (night.encode(), x)
        write_lines(fleet.scoring.directory / "in" / f"{night}.jsonl", [line])
    fleet.set_clock(NOON + 2 * DAY)
    fleet.work()
    assert fleet.history() == [("01-11", "complete"), ("01-12", "failed")]
    ask("ALTER TABLE theirs.scores DROP CONSTRAINT low")
    fleet.scheduler.run("nightly", again=True)
    fleet.work()
    assert fleet.history() == [("01-11", "complete"), ("01-12", "complete")]
    with fleet.scoring.database.transaction() as cursor:
        cursor.execute("SELECT id, prediction FROM theirs.scores ORDER BY id")
        assert cursor.fetchall() == [("2026-01-11", 14), ("2026-01-12", 140)]


def test_a_table_that_cannot_be_written_fails_its_window_before_anything_runs(
    fleet: ScheduleFleet, database_url: str
) -> None:
    nightly(fleet, request={"output": f"{database_url}#theirs.none", "key": "id", "columns": ["x"]})
    (fleet.scoring.directory / "in").mkdir()
    write_lines(fleet.scoring.directory / "in" / "2026-01-11.jsonl", [b'{"id": "a", "x": 1}'])
    fleet.set_clock(NOON + DAY)
    fleet.work()
    window = fleet.window()
    assert window.error is not None
    assert (window.state, window.error["code"], window.scoring) == ("failed", "table_refused", None)


def test_a_hub_that_lacks_a_time_zone_leaves_its_windows_to_another_and_fires_the_rest(
    fleet: ScheduleFleet,
) -> None:
    def move_to(zone: str) -> None:
        with fleet.scoring.database.transaction() as cursor:
            moved = "UPDATE schedules SET definition = definition || jsonb_build_object('timezone', %s)"
            cursor.execute(f"{moved} WHERE name = 'nightly'", (zone,))

    nightly(fleet, wait_for_input_s=3600, finish_by="00:10")
    output = str(fleet.scoring.directory / "other" / "{date}")
    fleet.scheduler.add("other", fleet.definition(wait_for_input_s=3600, request={"output": output}))
    fleet.set_clock(datetime(2026, 1, 11, 0, 0, 5, tzinfo=UTC))
    fleet.work()
    fleet.write_input("2026-01-11")
    move_to("Mars/Base")
    fleet.set_clock(datetime(2026, 1, 11, 0, 30, tzinfo=UTC))
    fleet.work()
    move_to("UTC")
    assert (fleet.history(), fleet.history("other")) == ([("01-11", "pending")], [("01-11", "complete")])
    fleet.work()
    assert fleet.history() == [("01-11", "complete")]


def test_a_window_is_compared_with_those_of_its_own_model_alone(fleet: ScheduleFleet) -> None:
    nightly(fleet)
    for night in (11, 12):
        fleet.write_input(f"2026-01-{night}", rows=50)
        fleet.set_clock(datetime(2026, 1, night, 0, 0, 5, tzinfo=UTC))
        fleet.work()
        fleet.scoring.report()
        assert fleet.window().drift == "-"
        with fleet.scoring.database.transaction() as cursor:
            cursor.execute("UPDATE scorings SET spec = jsonb_set(spec, '{model}', '\"other\"')")
