"""Schedules by a column: each window scores the rows past the last one's greatest value, whatever dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shunter.producers.schedules.request import DateRange
from shunter.storage import failpoints
from shunter.storage.database import Cursor, Database
from shunter.storage.errors import Unavailable
from shunter.storage.job_repair import JobRepair
from tests.integration.test_schedule_retention import forget
from tests.schedule_fleet import NOON, ScheduleFleet

DAY = timedelta(days=1)


@pytest.fixture
def fleet(nightly_fleet: ScheduleFleet) -> ScheduleFleet:
    return nightly_fleet


def by_column(fleet: ScheduleFleet, *, column: str = "n", **options: Any) -> None:
    """Add a schedule that scores what is new in `in`."""
    (fleet.scoring.directory / "in").mkdir(exist_ok=True)
    asked = {"input": str(fleet.scoring.directory / "in"), "columns": ["x"], "key": "x"}
    request = {**asked, **options.pop("request", {})}
    fleet.scheduler.add("nightly", fleet.definition(incremental_by=column, request=request, **options))


def write(fleet: ScheduleFleet, name: str, values: Sequence[int | None]) -> None:
    """A file of rows: `n` is the value that rises, `x` what the model doubles."""
    table = pa.table({"n": pa.array(values, pa.int64()), "x": [10 * (value or 0) for value in values]})
    pq.write_table(table, fleet.scoring.directory / "in" / f"{name}.parquet", row_group_size=4)


def night(fleet: ScheduleFleet, day: int) -> None:
    """Everything that happens in the night of a day."""
    fleet.set_clock(datetime(2026, 1, day, tzinfo=UTC))
    fleet.work()


def scored(fleet: ScheduleFleet, day: int) -> list[int]:
    """The `x` of the rows in a night's dataset."""
    return [row["x"] // 10 for row in fleet.scoring.rows(f"out/2026-01-{day}")]


def why(fleet: ScheduleFleet) -> tuple[str, str]:
    """The code and the message of what went wrong with the latest window."""
    error = fleet.window().error or {}
    return error["code"], error["message"]


def mark(fleet: ScheduleFleet) -> str | None:
    return fleet.scheduler.get("nightly").watermark


def test_each_window_goes_on_after_the_greatest_value_of_the_last(fleet: ScheduleFleet) -> None:
    by_column(fleet)
    write(fleet, "a", [3, 1, None, 2, 7, 5])
    night(fleet, 11)
    assert (scored(fleet, 11), mark(fleet)) == ([3, 1, 2, 7, 5], "7")
    write(fleet, "a", [3, 1, None, 2, 7, 5, 8])  # the file has grown
    write(fleet, "b", [7, 4, None, 9, 10])  # ties and late rows stay behind
    night(fleet, 12)
    assert (scored(fleet, 12), mark(fleet)) == ([8, 9, 10], "10")
    assert fleet.window().total == 3
    night(fleet, 13)
    assert fleet.window().state == "skipped"
    assert why(fleet)[0] == "nothing_new"
    assert why(fleet)[1].endswith("has a value greater than 10 in n")
    assert mark(fleet) == "10"


def test_rows_of_a_window_that_comes_to_nothing_are_scored_in_the_next(fleet: ScheduleFleet) -> None:
    by_column(fleet)
    write(fleet, "a", [1, 2])
    fleet.set_clock(NOON + DAY)
    fleet.firing.run_once()
    fleet.scoring.scorer.cancel(UUID(fleet.window().scoring))
    fleet.work()
    assert mark(fleet) is None
    write(fleet, "b", [3])
    night(fleet, 12)
    assert (scored(fleet, 12), mark(fleet)) == ([1, 2, 3], "3")


def test_a_dataset_that_somebody_else_stands_in_the_way_of_moves_no_mark(fleet: ScheduleFleet) -> None:
    by_column(fleet)
    write(fleet, "a", [1, 2])
    fleet.set_clock(NOON + DAY)
    fleet.firing.run_once()
    theirs = fleet.scoring.directory / "out" / "2026-01-11"
    theirs.mkdir(parents=True)
    (theirs / "_shunter.json").write_text("{}")
    fleet.work()
    assert fleet.scoring.end(fleet.scoring.scorer.find()[0]).state == "failed"
    assert mark(fleet) is None


@pytest.mark.parametrize("point", ["schedule.begun", "plan.committed", "dataset.published"])
def test_a_hub_that_goes_anywhere_in_between_costs_no_row_and_doubles_none(
    fleet: ScheduleFleet, point: str
) -> None:
    by_column(fleet, request={"chunk_rows": 2})
    write(fleet, "a", list(range(1, 8)))
    fleet.set_clock(NOON + DAY)
    failpoints.arm(f"{point}=error")
    with pytest.raises(Unavailable):
        fleet.work()
    assert mark(fleet) is None
    failpoints.arm("")
    for begun in fleet.scoring.scorer.find():
        fleet.scoring.end(begun)
    fleet.work()
    assert (scored(fleet, 11), mark(fleet)) == (list(range(1, 8)), "7")
    write(fleet, "b", [8])
    night(fleet, 12)
    assert scored(fleet, 12) == [8]


def test_a_mark_far_too_great_is_forgotten_with_its_schedule(fleet: ScheduleFleet) -> None:
    by_column(fleet)
    write(fleet, "a", [1, 2, 10**12])
    night(fleet, 11)
    write(fleet, "b", [3])
    night(fleet, 12)
    assert (fleet.window().state, why(fleet)[0]) == ("skipped", "nothing_new")
    write(fleet, "a", [1, 2, None])
    fleet.scheduler.remove("nightly")
    by_column(fleet)
    night(fleet, 13)
    assert (scored(fleet, 13), mark(fleet)) == ([1, 2, 3], "3")


def test_a_mark_outlives_the_scorings_that_made_it(fleet: ScheduleFleet) -> None:
    by_column(fleet)
    write(fleet, "a", [1, 2])
    night(fleet, 11)
    assert forget(fleet) == 1
    write(fleet, "b", [3])
    night(fleet, 12)
    assert scored(fleet, 12) == [3]


def test_a_late_window_scores_only_what_is_past_the_mark_by_then(fleet: ScheduleFleet) -> None:
    by_column(fleet)
    write(fleet, "a", [5])
    night(fleet, 11)
    write(fleet, "b", [4, 6])
    assert fleet.scheduler.backfill("nightly", DateRange(date(2026, 1, 9), date(2026, 1, 9))) == 1
    fleet.work()
    assert fleet.scoring.rows("out/2026-01-09")[0]["x"] == 60
    assert mark(fleet) == "6"


@pytest.mark.parametrize(("remains", "code"), [(True, "input_changed"), (False, "not_found")])
def test_rows_of_a_file_that_is_not_what_it_was_are_left_to_the_next_window(
    fleet: ScheduleFleet, remains: bool, code: str
) -> None:
    by_column(fleet)
    write(fleet, "a", [1, 2])
    write(fleet, "b", [3])
    fleet.set_clock(NOON + DAY)
    fleet.firing.run_once()
    fleet.scoring.plan()
    (fleet.scoring.directory / "in" / "a.parquet").unlink()
    write(fleet, "a" if remains else "c", [1, 2, 4])
    status = fleet.scoring.end(fleet.scoring.scorer.find()[0])
    assert (status.state, status.error and status.error["code"]) == ("failed", code)
    assert mark(fleet) is None
    night(fleet, 12)
    assert (sorted(scored(fleet, 12)), mark(fleet)) == ([1, 2, 3, 4], "4")


class Stalled(JobRepair):
    """A hub that stalls between its decision and what it begins, while others go on."""

    def __init__(self, database: Database, meanwhile: Callable[[], None]) -> None:
        super().__init__(database)
        self._todo = [lambda: None, meanwhile]

    @contextmanager
    def duty(self, key: int) -> Iterator[Cursor | None]:
        if self._todo:
            self._todo.pop(0)()
        with super().duty(key) as cursor:
            yield cursor


@pytest.mark.parametrize("ends", [False, True])
def test_a_hub_that_stalls_begins_no_window_on_what_was_true_before(fleet: ScheduleFleet, ends: bool) -> None:
    def another_begins_the_night() -> None:
        fleet.set_clock(NOON + DAY)
        assert fleet.firing.run_once() == 1
        if ends:
            fleet.scoring.end(fleet.scoring.scorer.find()[0])

    by_column(fleet)
    write(fleet, "a", [1, 2])
    fleet.scheduler.backfill("nightly", DateRange(date(2026, 1, 9), date(2026, 1, 9)))
    database = fleet.scoring.database
    fleet.another_hub(database, Stalled(database, another_begins_the_night)).run_once()
    (begun,) = fleet.scoring.scorer.find()
    fleet.scoring.end(begun)
    fleet.work()
    assert (fleet.history(), mark(fleet)) == ([("01-09", "skipped"), ("01-11", "complete")], "2")


def test_a_new_schedule_of_the_same_name_begins_with_every_row(fleet: ScheduleFleet) -> None:
    by_column(fleet)
    write(fleet, "a", [1, 2])
    fleet.set_clock(NOON + DAY)
    fleet.firing.run_once()
    begun = fleet.scoring.scorer.find()[0]
    fleet.scheduler.remove("nightly")
    by_column(fleet)
    fleet.scoring.end(begun)
    assert mark(fleet) is None


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("m", "has no column 'm'"),
        ("words", "which has no order to go by"),
        ("half", "is halffloat, which has no order to go by"),
    ],
)
def test_a_column_that_cannot_be_gone_by_fails_the_window_and_says_so(
    fleet: ScheduleFleet, column: str, said: str
) -> None:
    by_column(fleet, column=column)
    table = pa.table({"n": [1], "x": [1], "words": [["a"]], "half": pa.array([1.0], pa.float16())})
    pq.write_table(table, fleet.scoring.directory / "in" / "a.parquet")
    night(fleet, 11)
    assert fleet.window().state == "failed"
    assert said in why(fleet)[1]


def test_rows_of_text_are_refused_in_their_window(fleet: ScheduleFleet) -> None:
    by_column(fleet)
    fleet.write_input("a")
    night(fleet, 11)
    assert (fleet.window().state, why(fleet)[0]) == ("failed", "invalid_input")


def test_failed_rows_are_named_and_run_again_by_their_places_in_the_file(fleet: ScheduleFleet) -> None:
    def refuse_three(row: Any) -> Any:
        if row == 30:
            raise ValueError("thirty")
        return row

    by_column(fleet)
    write(fleet, "a", [1, 2, 3, 4])
    fleet.set_clock(NOON + DAY)
    fleet.firing.run_once()
    status = fleet.scoring.end(fleet.scoring.scorer.find()[0], model=refuse_three)
    assert (status.succeeded, status.failed, mark(fleet)) == (3, 1, "4")
    again = fleet.scoring.end(fleet.scoring.scorer.retry_errors(UUID(status.id), output=None, version=None))
    assert (again.succeeded, mark(fleet)) == (1, "4")
