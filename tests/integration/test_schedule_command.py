"""`shunter schedule`: what its commands print, and with what they exit."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from shunter.cli import run
from tests.schedule_fleet import ScheduleFleet, schedule_fleet
from tests.scoring_fleet import MODEL, scoring_fleet


@pytest.fixture
def fleet(
    database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ScheduleFleet]:
    monkeypatch.setenv("SHUNTER_DATABASE_URL", database_url)
    monkeypatch.setenv("SHUNTER_REDIS_URL", redis_url)
    monkeypatch.setenv("SHUNTER_OBJECT_STORE", (tmp_path / "objects").as_uri())
    with (
        scoring_fleet(database_url, redis_url, tmp_path) as scoring,
        schedule_fleet(scoring, monkeypatch, datetime(2026, 1, 10, 12, tzinfo=UTC)) as fleet,
    ):
        yield fleet


def schedule(*arguments: str) -> int:
    return run(["schedule", *arguments])


def add(fleet: ScheduleFleet, *options: str) -> int:
    request = fleet.definition().request
    places = ["--input", request.input, "--output", request.output]
    return schedule("add", "nightly", "--cron", "0 0 * * *", "--model", MODEL, *places, *options)


def test_a_schedule_lives_on_the_command_line(
    fleet: ScheduleFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert add(fleet, "--wait-for-input", "2h", "--key", "id") == 0
    told = capsys.readouterr().out
    assert "wait_for_input_s   7200.0" in told
    assert "next window        2026-01-11 00:00Z" in told
    assert schedule("list") == 0
    assert "nightly" in capsys.readouterr().out
    assert schedule("pause", "nightly") == schedule("show", "nightly") == 0
    assert "next window        paused" in capsys.readouterr().out
    assert schedule("resume", "nightly") == 0
    assert schedule("remove", "nightly", "--yes") == 0
    assert schedule("show", "nightly") == 1
    assert "error: unknown_schedule: " in capsys.readouterr().err


def test_past_days_are_scored_and_the_history_tells_of_each(
    fleet: ScheduleFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    add(fleet)
    fleet.write_input("2026-01-08")
    assert schedule("backfill", "nightly", "--from", "2026-01-08", "--to", "2026-01-09") == 0
    assert "2 windows are queued" in capsys.readouterr().out
    fleet.work()
    assert schedule("history", "nightly") == 0
    _, second, first = capsys.readouterr().out.splitlines()
    assert first.split()[:5] == ["2026-01-08", "00:00Z", "complete", "6", "0"]
    assert "shunter report 019b" in first
    assert second.split()[:3] == ["2026-01-09", "00:00Z", "failed"]
    assert "input_missing: no file is at " in second
    assert schedule("history", "nightly", "--limit", "1", "--json") == 0
    (window,) = orjson.loads(capsys.readouterr().out)
    assert window["error"]["code"] == "input_missing"


def test_a_window_that_failed_is_run_again_by_hand(
    fleet: ScheduleFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    add(fleet)
    assert schedule("run", "nightly") == 0
    fleet.work()
    assert schedule("run", "nightly") == 1
    assert "--again   tries it another time" in capsys.readouterr().out
    fleet.write_input("2026-01-10")
    assert schedule("run", "nightly", "--window", "2026-01-10T01:00+01:00", "--again") == 0
    fleet.work()
    assert schedule("run", "nightly") == 0
    assert "the window of 2026-01-10 00:00Z is complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "nightly", "--window", "yesterday"],
        ["run", "nightly", "--window", "2026-01-10T00:00"],
        ["backfill", "nightly", "--from", "2026-13-01", "--to", "2026-01-02"],
        ["add", "nightly"],
    ],
)
def test_a_wrong_command_line_is_a_usage_error(arguments: list[str]) -> None:
    assert schedule(*arguments) == 2


def test_a_line_that_never_fires_is_one_line_on_the_terminal(
    fleet: ScheduleFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert add(fleet, "--cron", "0 0 30 2 *") == 1
    told = capsys.readouterr().err
    assert told.startswith("error: invalid_input: cron is '0 0 30 2 *'")
    assert told.count("\n") == 1
