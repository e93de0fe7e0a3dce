"""When windows begin: cron lines in time zones, and what they do when the clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shunter.storage.errors import InvalidInput
from shunter.storage.schedules.cron import Cron

BERLIN = "Europe/Berlin"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def starts(line: str, timezone: str, after: str, count: int) -> list[str]:
    return [f"{start:%m-%d %H:%M}" for start in islice(Cron(line, timezone).after(at(after)), count)]


def test_a_line_is_read_in_its_time_zone() -> None:
    assert starts("0 2 * * *", BERLIN, "2026-01-10", 2) == ["01-10 01:00", "01-11 01:00"]
    assert starts("0 2 * * *", "America/New_York", "2026-01-10", 1) == ["01-10 07:00"]


def test_a_night_that_skips_the_hour_fires_once_at_the_first_instant_that_exists() -> None:
    # In Berlin the clocks go from 2:00 to 3:00, at 1:00 UTC.
    assert starts("30 2 * * *", BERLIN, "2026-03-28 12:00", 2) == ["03-29 01:00", "03-30 00:30"]


def test_a_night_that_repeats_the_hour_fires_once_the_first_time() -> None:
    # In Berlin the clocks go from 3:00 to 2:00, at 1:00 UTC.
    assert starts("30 2 * * *", BERLIN, "2026-10-24 12:00", 2) == ["10-25 00:30", "10-26 01:30"]


def test_asked_within_the_repeated_hour_nothing_is_told_twice() -> None:
    assert starts("30 2 * * *", BERLIN, "2026-10-25 01:15", 1) == ["10-26 01:30"]
    assert starts("45 2 * * *", BERLIN, "2026-10-25 01:30", 1) == ["10-26 01:45"]


def test_a_line_with_a_star_follows_the_time_that_passes() -> None:
    assert starts("0 * * * *", BERLIN, "2026-10-24 23:30", 3) == ["10-25 00:00", "10-25 01:00", "10-25 02:00"]
    assert starts("0 * * * *", BERLIN, "2026-03-28 23:30", 3) == ["03-29 00:00", "03-29 01:00", "03-29 02:00"]


def test_windows_between_two_instants_include_the_last_and_not_the_first() -> None:
    cron = Cron("0 0 * * *", "UTC")
    assert len(list(cron.between(at("2026-01-01"), at("2026-01-31")))) == 30


@given(
    st.sampled_from(["0 2 * * *", "30 2 * * *", "15 */6 * * *", "0 0 * * 1", "*/7 3 * * *", "0 2,3 1 * *"]),
    st.sampled_from([BERLIN, "UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)),
)
def test_the_latest_window_is_the_last_on_the_way_there(line: str, timezone: str, until: datetime) -> None:
    cron, moment = Cron(line, timezone), until.replace(tzinfo=UTC)
    passed = list(cron.between(moment - timedelta(days=40), moment))
    assert cron.latest(moment) == passed[-1]
    assert passed == sorted(set(passed))


@pytest.mark.parametrize("line", ["0 0 30 2 *", "0 0 31 4,6 *", "0 0 31 2,4,6,9,11 *"])
def test_a_line_that_never_fires_is_refused(line: str) -> None:
    with pytest.raises(InvalidInput, match=r"no time matches|never fires"):
        Cron(line, "UTC")


@pytest.mark.parametrize("line", ["", "nightly", "0 2 * *", "0 0 2 * * *", "61 2 * * *", "0 2 * * MOO"])
def test_what_is_no_line_is_refused(line: str) -> None:
    with pytest.raises(InvalidInput, match="cron is"):
        Cron(line, "UTC")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Europe/Berln", "did you mean 'Europe/Berlin'"),
        ("", "IANA"),
        ("../etc", "IANA"),
        ("Mars", "timezone"),
    ],
)
def test_an_unknown_time_zone_is_refused(name: str, hint: str) -> None:
    with pytest.raises(InvalidInput, match=hint):
        Cron("0 2 * * *", name)
