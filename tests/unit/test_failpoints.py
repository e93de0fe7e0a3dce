"""Failpoints do nothing until they are armed, and are armed only by names that exist."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from shunter.cli import run
from shunter.storage import failpoints
from shunter.storage.errors import DatabaseUnavailable, QueueUnavailable, SettingsError
from shunter.storage.settings import Settings


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def test_points_that_are_not_armed_do_nothing() -> None:
    failpoints.arm("")
    for point in failpoints.POINTS:
        failpoints.hit(point)


def test_an_error_is_the_outage_that_the_code_there_survives() -> None:
    failpoints.arm("claim.before=error, ack.sent=error")
    with pytest.raises(DatabaseUnavailable, match=r"failpoint claim\.before"):
        failpoints.hit("claim.before")
    with pytest.raises(QueueUnavailable):
        failpoints.hit("ack.sent")
    failpoints.hit("claim.committed")


def test_a_number_means_only_that_hit() -> None:
    failpoints.arm("settle.before=error@2")
    failpoints.hit("settle.before")
    with pytest.raises(DatabaseUnavailable):
        failpoints.hit("settle.before")
    failpoints.hit("settle.before")


def test_a_delay_takes_its_time() -> None:
    failpoints.arm("fetch.popped=delay:0.05")
    began = time.monotonic()
    failpoints.hit("fetch.popped")
    assert time.monotonic() - began >= 0.05


def test_a_crash_is_a_kill_by_signal() -> None:
    code = (
        "from shunter.storage import failpoints; failpoints.arm('settle.before=crash@2');"
        "[failpoints.hit('settle.before') for _ in range(9)]"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == -9


def test_a_dropped_reply_reads_as_an_outage_of_postgres() -> None:
    failpoints.arm("rescue.committed=drop")
    with pytest.raises(DatabaseUnavailable, match="the reply to the commit is lost"):
        failpoints.hit("rescue.committed")


def test_what_hangs_hangs() -> None:
    failpoints.arm("claim.before=hang")
    thread = threading.Thread(target=failpoints.hit, args=("claim.before",), daemon=True)
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()


def test_the_points_of_the_code_are_the_points_that_can_be_armed() -> None:
    house = Path(failpoints.__file__).parents[1]
    sources = [file for part in ("storage", "producers", "workers") for file in (house / part).rglob("*.py")]
    named = re.findall(r'failpoints\.hit\("([^"]+)"\)', "".join(file.read_text() for file in sources))
    assert set(named) == set(failpoints.POINTS)


def test_nothing_but_the_variable_arms_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(failpoints.VARIABLE, raising=False)
    failpoints.arm()
    for point in failpoints.POINTS:
        failpoints.hit(point)
    monkeypatch.setenv(failpoints.VARIABLE, "claim.before=error")
    monkeypatch.setenv(failpoints.CONSENT, "yes")
    failpoints.arm()
    with pytest.raises(DatabaseUnavailable):
        failpoints.hit("claim.before")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("claim.comitted=crash", "there is no point 'claim.comitted'"),
        ("claim.before", "'' is no action"),
        ("claim.before=explode", "'explode' is no action"),
        ("claim.before=delay", "'delay' is no action"),
        ("claim.before=crash:3", "'crash:3' is no action"),
        ("claim.before=delay:soon", "could not convert"),
        ("claim.before=drop", "no commit has just been made at claim.before"),
        ("claim.before=hang:3", "'hang:3' is no action"),
        ("claim.before=delay:-1", "out of range"),
        ("claim.before=delay:nan", "out of range"),
        ("claim.before=crash@0", "out of range"),
        ("claim.before=crash@x", "invalid literal"),
    ],
)
def test_what_makes_no_sense_is_refused_and_arms_nothing(text: str, reason: str) -> None:
    with pytest.raises(SettingsError, match="SHUNTER_FAILPOINTS") as refusal:
        failpoints.arm(f"ack.sent=error,{text}")
    assert reason in refusal.value.message
    failpoints.hit("ack.sent")


def test_an_armed_process_says_so_loudly(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        failpoints.arm("claim.before=error")
    assert "WILL FAIL ON PURPOSE" in caplog.text


def test_the_variable_is_one_that_settings_know() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Settings.from_environment({failpoints.VARIABLE: "claim.before=error", failpoints.CONSENT: "yes"})


@pytest.mark.parametrize("consent", [{}, {failpoints.CONSENT: ""}, {failpoints.CONSENT: "no"}])
def test_settings_refuse_failpoints_that_nobody_meant(consent: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="Unset it") as refusal:
        Settings.from_environment({failpoints.VARIABLE: "claim.before=crash", **consent})
    assert refusal.value.field == failpoints.VARIABLE


@pytest.mark.parametrize("command", ["worker", "api", "verify", "migrate", "workers"])
def test_no_process_of_a_fleet_begins_with_failpoints_that_nobody_meant(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, "claim.before=crash")
    monkeypatch.delenv(failpoints.CONSENT, raising=False)
    assert run([command]) == 1
    assert "makes processes fail on purpose" in capsys.readouterr().err


def test_an_armed_client_is_refused_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, "submit.committed=crash")
    monkeypatch.delenv(failpoints.CONSENT, raising=False)
    with pytest.raises(SettingsError, match="fail on purpose"):
        failpoints.arm()


def test_what_is_shipped_arms_nothing() -> None:
    house = Path(__file__).parents[2]
    for name in ("Dockerfile", "docker-compose.yml", "Makefile"):
        assert failpoints.VARIABLE not in (house / name).read_text()
