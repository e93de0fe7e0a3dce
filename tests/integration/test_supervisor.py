"""Children under supervision: started again when they end, and shown when they fail."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shunter.supervisor import ChildSpec, LogFollower, Supervisor
from tests.waiting import wait_until


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(said: list[str]) -> Iterator[Supervisor]:
    started = Supervisor(said.append)
    yield started
    started.close()


def spec(directory: Path, *arguments: str) -> ChildSpec:
    return ChildSpec(
        name="child",
        arguments=arguments,
        environment=os.environ,
        log_file=directory / "child.log",
        stop_within_s=5.0,
    )


def test_a_child_that_ends_is_started_again_and_its_last_words_are_told(
    tmp_path: Path, supervisor: Supervisor, said: list[str]
) -> None:
    supervisor.add(spec(tmp_path, "env", "--data", str(tmp_path / "nothing")))
    wait_until(lambda: supervisor.ends()["child"] >= 2, 30)
    assert said[0].startswith("child ended with code 1 and starts again in 0.5 s")
    assert "no `shunter up` is running" in said[0]
    assert "starts again in 1 s" in said[1]


def test_what_is_wrong_in_a_log_is_shown_and_the_rest_is_not(
    tmp_path: Path, supervisor: Supervisor, said: list[str]
) -> None:
    child = spec(tmp_path, "--help")
    supervisor.add(child)
    lines = (
        "2026-01-01 00:00:00,000 INFO shunter.workers: all is well",
        "2026-01-01 00:00:00,000 WARNING celery.worker: not ours",
        "2026-01-01 00:00:00,000 WARNING shunter.workers.heart: no heartbeat",
        "2026-01-01 00:00:00,000 ERROR celery.worker: cannot connect",
    )
    with child.log_file.open("a") as log:
        log.write("".join(f"{line}\n" for line in lines))
    told = wait_until(lambda: [line for line in said if "cannot connect" in line])
    assert told == ["child: ERROR celery.worker: cannot connect"]
    shown = [line for line in said if line.startswith("child: ")]
    assert shown == ["child: WARNING shunter.workers.heart: no heartbeat", told[0]]


def test_a_line_of_a_log_is_read_once_and_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "child.log"
    follower = LogFollower(path)
    assert follower.news() == []
    with path.open("a", buffering=1) as log:
        log.write("one\ntwo\nhalf a li")
        assert follower.news() == ["one", "two"]
        assert follower.news() == []
        log.write("ne\n")
        assert follower.news() == ["half a line"]


def test_a_stopped_child_stays_stopped(tmp_path: Path, supervisor: Supervisor) -> None:
    supervisor.add(spec(tmp_path, "submit", "model", "--file", "/dev/tty"))
    supervisor.stop(["child"])
    assert supervisor.pids() == supervisor.ends() == {}
