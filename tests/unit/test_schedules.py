"""What a schedule says, and what is to be done about it now: definitions, templates, decisions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest

from shunter.storage import ids
from shunter.storage.errors import InvalidInput
from shunter.storage.schedules.definition import Definition, Missed, Overlap, Schedule, check_name
from shunter.storage.schedules.firing import MOST_WINDOWS, Standing, decide, turns
from shunter.storage.schedules.lateness import Pace, warning
from shunter.storage.schedules.templates import render
from shunter.storage.schedules.window import Cause, Window, WindowState, scoring_id
from shunter.storage.scoring.request import ScoringRequest
from shunter.storage.scoring.spec import ScoringState

REQUEST = ScoringRequest(model="digits", input="/in/{date}", output="/out/{date}")
TO_TABLE = replace(REQUEST, output="postgresql://host/db#scores", key="id")
MIDNIGHT = datetime(2026, 1, 10, tzinfo=UTC)
DAY = timedelta(days=1)


def definition(**options: Any) -> Definition:
    return Definition(**{"cron": "0 0 * * *", "request": REQUEST, **options})


def schedule(decided_until: datetime = MIDNIGHT - timedelta(hours=1), **options: Any) -> Schedule:
    held = {name: options.pop(name) for name in ("paused", "backfill_paused") if name in options}
    at_once = options.pop("backfill_at_once", 1)
    return Schedule(
        id=UUID(int=1),
        tenant="default",
        name="nightly",
        definition=definition(**options),
        decided_until=decided_until,
        **{"paused": False, "backfill_paused": False, **held},
        backfill_at_once=at_once,
        created_at=decided_until,
    )


def window(start: datetime = MIDNIGHT, cause: Cause = Cause.CRON, **options: Any) -> Window:
    return Window(schedule=UUID(int=1), start=start, cause=cause, **options)


def running(start: datetime = MIDNIGHT, cause: Cause = Cause.CRON) -> Window:
    return window(
        start, cause, state=WindowState.STARTED, scoring=uuid4(), scoring_state=ScoringState.RUNNING
    )


def decided(standing: Standing, now: datetime) -> list[str]:
    decision = decide(standing, now)
    return [] if decision is None else [f"{w.start:%d} {w.state}" for w in decision.windows]


def test_places_are_filled_with_the_date_of_the_time_zone() -> None:
    start, zone = datetime(2026, 1, 31, 23, 30, tzinfo=UTC), ZoneInfo("Europe/Berlin")
    filled = [
        render(template, start, zone, field="input")
        for template in ("{date}", "a/{date:%Y/%m/%d}/*.csv", "{date-1d}", "{date+1d:%d}", "{window_start}")
    ]
    assert filled == ["2026-02-01", "a/2026/02/01/*.csv", "2026-01-31", "02", "20260131T233000Z"]


def test_a_day_before_a_change_of_the_clocks_is_the_day_before() -> None:
    start, zone = datetime(2026, 3, 29, 22, 30, tzinfo=UTC), ZoneInfo("Europe/Berlin")
    assert render("{date} {date-1d}", start, zone, field="input") == "2026-03-30 2026-03-29"


@pytest.mark.parametrize(
    "template", ["{dat}", "{date", "date}", "{}", "{date-1}", "{date:{date}}", "{date:}"]
)
def test_what_is_no_template_is_refused(template: str) -> None:
    with pytest.raises(InvalidInput, match=r"known are|no partner"):
        render(template, MIDNIGHT, ZoneInfo("UTC"), field="output")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cron": "0 0 30 2 *"}, "no time matches|never fires"),
        ({"timezone": "Mars/Base"}, "timezone is"),
        ({"request": replace(REQUEST, output="/out")}, "without a date: each window"),
        ({"request": replace(REQUEST, output="/out"), "incremental": True}, "in incremental mode"),
        ({"cron": "0 * * * *"}, "put {window_start}"),
        ({"cron": "0 * * * *", "request": TO_TABLE}, "into one table: put {window_start} into the input"),
        ({"request": TO_TABLE, "incremental": True}, "leave out incremental"),
        ({"request": TO_TABLE, "incremental_by": "n"}, "leave out incremental"),
        ({"incremental": True, "incremental_by": "n"}, "give one of them"),
        ({"incremental_by": ""}, "names a column of Parquet files"),
        (
            {"incremental_by": "n", "request": replace(REQUEST, input_format="csv")},
            "names a column of Parquet",
        ),
        ({"request": replace(REQUEST, input="/in/{day}")}, "input has {day}"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        definition(**options).check_places(MIDNIGHT)


@pytest.mark.parametrize(
    "options",
    [{"finish_by": "24:00"}, {"finish_by": "6am"}, {"wait_for_input_s": -1}, {"wait_for_input_s": 1e9}],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        definition(**options)


def test_incremental_input_needs_no_date() -> None:
    definition(request=replace(REQUEST, input="/in"), incremental=True).check_places(MIDNIGHT)


def test_every_window_may_write_to_the_same_table() -> None:
    definition(request=TO_TABLE).check_places(MIDNIGHT)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://me:secret@host/db#scores", "holds no password"),
        ("postgresql://host/db?password=secret#scores", "holds no password"),
        ("postgresql://host/db", "name the table behind a #"),
    ],
)
def test_a_table_is_named_without_a_password(url: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        replace(TO_TABLE, output=url)


def test_a_definition_is_read_as_it_was_written() -> None:
    written = definition(missed=Missed.SKIP, overlap=Overlap.SKIP, finish_by="06:00")
    assert Definition.from_document(written.document()) == written


@pytest.mark.parametrize("name", ["", "Nightly", "a b", "-x", "x" * 64, "a/b"])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="name is"):
        check_name(name)


def test_finish_by_is_the_first_such_time_after_the_window() -> None:
    nightly = definition(cron="0 22 * * *", timezone="Europe/Berlin", finish_by="06:00")
    start = datetime(2026, 3, 28, 21, tzinfo=UTC)
    # The clocks change in that night: 6:00 is 4:00 UTC by then.
    assert nightly.finish_at(start) == datetime(2026, 3, 29, 4, tzinfo=UTC)


def test_a_window_is_decided_on_when_it_has_begun() -> None:
    standing = Standing(schedule(), [])
    assert decided(standing, MIDNIGHT - timedelta(seconds=1)) == []
    assert decided(standing, MIDNIGHT) == ["10 pending"]
    assert decided(Standing(schedule(MIDNIGHT), []), MIDNIGHT + timedelta(hours=23)) == []


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        (Missed.CATCH_UP, ["10 pending", "11 pending", "12 pending"]),
        (Missed.SKIP, ["10 skipped", "11 skipped", "12 skipped"]),
        (Missed.LATEST, ["10 skipped", "11 skipped", "12 pending"]),
    ],
)
def test_missed_windows_are_treated_as_the_schedule_says(missed: Missed, expected: list[str]) -> None:
    now = MIDNIGHT + 2 * DAY + timedelta(hours=5)
    assert decided(Standing(schedule(missed=missed), []), now) == expected


def test_a_window_that_is_on_time_is_never_missed() -> None:
    now = MIDNIGHT + DAY + timedelta(minutes=1)
    assert decided(Standing(schedule(missed=Missed.SKIP), []), now) == ["10 skipped", "11 pending"]


def test_a_window_that_begins_too_early_queues_or_is_skipped() -> None:
    before = running(MIDNIGHT - DAY)
    assert decided(Standing(schedule(), [before]), MIDNIGHT) == ["10 pending"]
    assert decided(Standing(schedule(overlap=Overlap.SKIP), [before]), MIDNIGHT) == ["10 skipped"]
    backfill = running(MIDNIGHT - DAY, Cause.BACKFILL)
    assert decided(Standing(schedule(overlap=Overlap.SKIP), [backfill]), MIDNIGHT) == ["10 pending"]


def test_two_windows_that_begin_before_anybody_looks_overlap_as_well() -> None:
    often = schedule(
        MIDNIGHT,
        cron="*/5 * * * *",
        overlap=Overlap.SKIP,
        request=replace(REQUEST, output="/out/{window_start}"),
    )
    decision = decide(Standing(often, []), MIDNIGHT + timedelta(minutes=10))
    assert decision is not None
    assert [w.state for w in decision.windows] == [WindowState.PENDING, WindowState.SKIPPED]


def test_of_very_many_missed_windows_only_the_very_last_is_the_latest() -> None:
    minutely = schedule(
        MIDNIGHT,
        cron="* * * * *",
        missed=Missed.LATEST,
        request=replace(REQUEST, output="/out/{window_start}"),
    )
    now = MIDNIGHT + timedelta(minutes=MOST_WINDOWS + 500)
    first = decide(Standing(minutely, []), now)
    assert first is not None
    assert len(first.windows) == MOST_WINDOWS
    assert {w.state for w in first.windows} == {WindowState.SKIPPED}
    second = decide(Standing(replace(minutely, decided_until=first.until), []), now)
    assert second is not None
    assert second.windows[-1].state is WindowState.PENDING
    assert second.until == now


def test_a_paused_schedule_decides_nothing_and_begins_only_what_was_asked_for_by_hand() -> None:
    paused = schedule(paused=True)
    assert decided(Standing(paused, []), MIDNIGHT) == []
    by_hand = window(MIDNIGHT + DAY, Cause.RUN)
    open = [window(), by_hand, window(MIDNIGHT - DAY, Cause.BACKFILL)]
    assert turns(Standing(paused, open), MIDNIGHT + DAY) == [by_hand]


def test_windows_take_their_turn_one_after_the_other() -> None:
    first, second = window(), window(MIDNIGHT + DAY)
    assert turns(Standing(schedule(), [second, first]), MIDNIGHT + DAY) == [first]
    assert turns(Standing(schedule(), [second, running()]), MIDNIGHT + DAY) == []


def test_a_window_that_waits_for_its_input_keeps_its_place() -> None:
    waiting = window(not_before=MIDNIGHT + timedelta(seconds=30))
    standing = Standing(schedule(), [waiting, window(MIDNIGHT + DAY)])
    assert turns(standing, MIDNIGHT) == []
    assert turns(standing, MIDNIGHT + timedelta(seconds=30)) == [waiting]


def test_a_backfill_goes_on_beside_the_nights_and_no_wider_than_it_may() -> None:
    days = [window(MIDNIGHT - n * DAY, Cause.BACKFILL) for n in range(5, 0, -1)]
    tonight = window()
    assert turns(Standing(schedule(), [*days, tonight]), MIDNIGHT) == [tonight, days[0]]
    wide = schedule(backfill_at_once=3)
    under_way = running(MIDNIGHT - 6 * DAY, Cause.BACKFILL)
    assert turns(Standing(wide, [under_way, *days]), MIDNIGHT) == days[:2]
    assert turns(Standing(schedule(backfill_paused=True), [*days, tonight]), MIDNIGHT) == [tonight]


def test_in_incremental_mode_one_window_runs_at_a_time() -> None:
    incremental = schedule(incremental=True)
    tonight, day = window(), window(MIDNIGHT - DAY, Cause.BACKFILL)
    assert turns(Standing(incremental, [tonight, day]), MIDNIGHT) == [tonight]
    assert turns(Standing(incremental, [running(MIDNIGHT - DAY, Cause.BACKFILL), tonight]), MIDNIGHT) == []


def test_the_scoring_of_a_window_has_one_id_in_the_order_of_windows() -> None:
    schedules = [uuid4(), uuid4()]
    starts = [MIDNIGHT + n * DAY for n in range(50)]
    made = [scoring_id(schedules[0], start, 0) for start in starts]
    assert made == sorted(made) == [scoring_id(schedules[0], start, 0) for start in starts]
    others = [*made, scoring_id(schedules[0], MIDNIGHT, 1), scoring_id(schedules[1], MIDNIGHT, 0)]
    assert len(set(others)) == 52
    assert ids.created_at(made[0]) == MIDNIGHT


def pace(done: int, known: int, elapsed_s: float = 10.0, fleet_rate: float = 0.0) -> Pace:
    return Pace(rows_done=done, rows_known=known, elapsed_s=elapsed_s, fleet_rate=fleet_rate)


def test_a_window_that_will_be_late_is_warned_of() -> None:
    finish_at = MIDNIGHT + timedelta(hours=1)
    assert warning(pace(100, 36_000), now=MIDNIGHT, finish_at=finish_at) is None
    said = warning(pace(100, 36_200), now=MIDNIGHT, finish_at=finish_at)
    assert said is not None
    assert "36100 rows at 10.0 rows/s will end at 2026-01-10 01:00" in said
    assert warning(pace(0, 36_001, fleet_rate=10), now=MIDNIGHT, finish_at=finish_at) is not None
    assert warning(pace(0, 10**9), now=MIDNIGHT, finish_at=finish_at) is None
    assert (
        warning(pace(9, 10), now=finish_at, finish_at=finish_at) == "it has not ended by 2026-01-10 01:00 UTC"
    )
