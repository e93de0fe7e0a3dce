"""`shunter up`: everything on one machine starts, works, survives kills, and leaves nothing behind."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import psutil
import pytest

from tests.acceptance.fleet import DOUBLE, write_model
from tests.acceptance.up import Up, running_up, shunter
from tests.waiting import wait_until

SLOW = """
import time
class Model:
    def forward(self, rows):
        time.sleep(60)
        return rows
"""
BROKEN = """
class Model:
    def load(self, directory, device):
        raise RuntimeError("no weights here")
    def forward(self, rows):
        return rows
"""
GONE_WITHIN_S = 10.0


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One `up` for all tests that leave it running."""
    directory = tmp_path_factory.mktemp("up")
    write_model(directory / "models", "double", DOUBLE)
    with running_up(directory, "--flower-port", "0") as started:
        yield started


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write_model(tmp_path / "models", "double", DOUBLE)
    return tmp_path


def test_the_only_line_on_stdout_names_every_url(up: Up) -> None:
    urls = up.wait_until_ready()
    assert list(urls) == ["api", "docs", "flower", "data"]
    assert len(up.out().splitlines()) == 1
    assert status_of(f"{urls['api']}/readyz") == status_of(urls["docs"]) == 200
    wait_until(lambda: answers(urls["flower"]), 30)


def test_a_job_can_be_submitted_over_http(up: Up) -> None:
    api = up.wait_until_ready()["api"]
    accepted = ask(f"{api}/v1/jobs", {"model": "double", "inputs": [1, 2]})
    finished = ask(f"{api}/v1/jobs/{accepted['id']}?wait=30")
    assert finished["state"] == "succeeded"
    assert ask(f"{api}/v1/jobs/{accepted['id']}/results")["outputs"] == [2, 4]


def test_another_shell_submits_after_it_evaluates_env(up: Up) -> None:
    waited = up.command("submit", "double", "--row", "3", "--row", '"ab"', "--wait")
    assert (waited.returncode, waited.stdout, waited.stderr) == (0, '6\n"abab"\n', "")


def test_the_life_of_a_job_on_the_command_line(up: Up) -> None:
    id = up.command("submit", "double", stdin="1\n\n2\n").stdout.strip()
    assert up.command("results", id, "--wait").stdout == "2\n4\n"
    status = json.loads(up.command("status", id, "--json").stdout)
    assert (status["state"], status["rows"]["succeeded"]) == ("succeeded", 2)
    refused = up.command("cancel", id)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: already_finished: ")
    assert "double:1 ready" in up.command("workers").stdout
    assert "double" in up.command("models", "list").stdout


def without_times(text: str) -> str:
    return re.sub(r"[0-9.]+ s ago", "just now", text)


@pytest.mark.parametrize("arguments", [("workers",), ("models", "list")])
def test_the_lists_are_the_same_through_the_api(up: Up, arguments: tuple[str, ...]) -> None:
    only_api = {"SHUNTER_API_URL": up.wait_until_ready()["api"]}

    def lists_are_the_same() -> bool:
        through_api = shunter(*arguments, directory=up.directory, environment=only_api)
        assert (through_api.returncode, through_api.stderr) == (0, "")
        return without_times(through_api.stdout) == without_times(up.command(*arguments).stdout)

    # Between the two a worker may tell of more batches.
    wait_until(lists_are_the_same, timeout_s=30.0)


def test_a_failed_row_is_told_with_its_number(up: Up) -> None:
    failed = up.command("submit", "double", "--row", "3", "--row", "null", "--wait")
    assert (failed.returncode, failed.stdout) == (1, "6\nnull\n")
    assert failed.stderr.startswith("error: row 1: ")


def test_processes_that_are_killed_come_back(up: Up) -> None:
    api = up.wait_until_ready()["api"]
    killed = [
        up.child(*words)
        for words in (("shunter", "api"), ("shunter", "worker"), ("valkey", "127.0.0.1"), ("postgres", "-D"))
    ]
    for process in killed:
        process.kill()
    wait_until(lambda: not any(map(is_running, killed)))
    wait_until(lambda: answers(f"{api}/readyz"), 60)
    waited = wait_until(lambda: succeeded(up, "submit", "double", "--row", "3", "--wait"), 60)
    assert waited == "6\n"


def test_a_second_up_in_the_same_directory_is_refused(up: Up) -> None:
    refused = shunter("up", "--port", "0", directory=up.directory)
    assert refused.returncode == 1
    assert f"is in use by process {up.process.pid}" in refused.stderr


def test_sigterm_drains_and_leaves_nothing_running(directory: Path) -> None:
    with running_up(directory) as up:
        up.command("submit", "double", "--row", "1", "--wait")
        everything = up.processes()
        assert len(everything) >= 5
        assert up.end() == 0
        assert not any(map(is_running, everything))
        assert up.err().splitlines()[-1] == "shunter: stopped"
    refused = shunter("env", directory=directory)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: invalid_settings: no `shunter up` is running in ")


def test_a_restart_finds_its_data_and_other_shells_stay_connected(directory: Path) -> None:
    with running_up(directory) as up:
        exports = up.exports()
        id = up.command("submit", "double", "--row", "3").stdout.strip()
    with running_up(directory, environment=exports) as up:
        found = shunter("results", id, "--wait", directory=directory, environment=exports)
        assert (found.stdout, found.stderr) == ("6\n", "")
        started_its_own = {"postgres", "valkey-server"} & {process.name() for process in up.processes()}
        assert started_its_own, "it took the URLs of its own last run for somebody else's services"


def test_a_kill_of_up_leaves_nothing_running(directory: Path) -> None:
    with running_up(directory) as up:
        up.command("submit", "double", "--row", "1", "--wait")
        everything = up.processes()
        up.end(signal.SIGKILL)
        wait_until(lambda: not any(map(is_running, everything)), GONE_WITHIN_S)
    with running_up(directory) as up:
        assert up.command("submit", "double", "--row", "3", "--wait").stdout == "6\n"


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    write_model(tmp_path / "models", "slow", SLOW)
    with running_up(tmp_path) as up:
        id = up.command("submit", "slow", "--row", "1").stdout.strip()
        wait_until(lambda: '"running"' in up.command("status", id, "--json").stdout, 30)
        everything = up.processes()
        up.process.send_signal(signal.SIGINT)
        wait_until(lambda: "draining" in up.err())
        assert up.end(signal.SIGINT, within_s=5) == 130
        wait_until(lambda: not any(map(is_running, everything)), GONE_WITHIN_S)


def test_packages_of_the_current_directory_are_not_imported(directory: Path) -> None:
    for name in ("storage", "workers", "producers", "migrations", "shunter", "celery", "flower"):
        (directory / name).mkdir()
        (directory / name / "__init__.py").write_text(
            "raise SystemExit('imported from the current directory')"
        )
    with running_up(directory, "--flower-port", "0") as up:
        assert up.command("submit", "double", "--row", "3", "--wait").stdout == "6\n"
        flower = up.wait_until_ready()["flower"]
        wait_until(lambda: answers(flower), 30)


def test_without_a_model_it_says_how_to_add_one_and_serves_it_when_it_comes(tmp_path: Path) -> None:
    with running_up(tmp_path) as up:
        assert f"no model to serve in {tmp_path / 'models'}: put a class Model" in up.err()
        write_model(tmp_path / "models", "double", DOUBLE)
        waited = wait_until(lambda: succeeded(up, "submit", "double", "--row", "3", "--wait"), 60)
        assert waited == "6\n"


def test_a_model_that_cannot_be_read_or_loaded_is_told_at_the_terminal(tmp_path: Path) -> None:
    write_model(tmp_path / "models", "misread", DOUBLE, toml="max_rows = 3")
    write_model(tmp_path / "models", "broken", BROKEN, toml="[run]\nmax_attempts = 1")
    with running_up(tmp_path) as up:
        wait_until(lambda: "misread" in up.err())
        up.command("submit", "broken", "--row", "1", "--wait")
        wait_until(lambda: "no weights here" in up.err())


@pytest.mark.parametrize("option", ["--port", "--flower-port"])
def test_a_taken_port_is_named(directory: Path, option: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        refused = shunter("up", option, str(port), directory=directory)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith(f"error: invalid_settings: port {port} is taken: ")
    assert option in refused.stderr


def succeeded(up: Up, *arguments: str) -> str | None:
    """What a command prints, None if it fails."""
    answer = up.command(*arguments)
    return answer.stdout if answer.returncode == 0 else None


def is_running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def answers(url: str) -> bool:
    try:
        return status_of(url) == 200
    except OSError:
        return False


def status_of(url: str) -> int:
    with urlopen(url, timeout=10) as answer:
        return int(answer.status)


def ask(url: str, document: dict[str, object] | None = None) -> dict[str, object]:
    body = None if document is None else json.dumps(document).encode()
    with urlopen(Request(url, body, {"Content-Type": "application/json"}), timeout=60) as answer:
        return dict(json.load(answer))
