"""The time that schedules go by: Postgres', or a file's where a process may be broken on purpose."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from shunter.storage import clock, failpoints
from shunter.storage.settings import Settings

POSTGRES = datetime(2026, 1, 10, tzinfo=UTC)


class Cursor:
    """Answers as Postgres does when it is asked for the time."""

    def execute(self, statement: str) -> None:
        assert statement == "SELECT now()"

    def fetchone(self) -> tuple[datetime]:
        return (POSTGRES,)


def told() -> datetime:
    return clock.fleet_time(cast(Any, Cursor()))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(clock.VARIABLE, str(tmp_path / "clock"))
    (tmp_path / "clock").write_text("2030-01-01T02:00:00+01:00")
    return tmp_path / "clock"


def test_a_test_sets_the_time_with_a_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(failpoints.CONSENT, "yes")
    assert told() == datetime(2030, 1, 1, 1, tzinfo=UTC)
    file.write_text("2031-01-01T00:00:00+00:00")
    assert told() == datetime(2031, 1, 1, tzinfo=UTC)


@pytest.mark.usefixtures("file")
def test_nobody_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(failpoints.CONSENT, raising=False)
    assert told() == POSTGRES


def test_its_variable_is_no_unknown_setting() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Settings.from_environment({clock.VARIABLE: "/somewhere", failpoints.CONSENT: "yes"})
