"""A fleet for one block of code, and models that are published anew while it runs."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import pytest

import shunter
from shunter import Client, SettingsError
from shunter.storage.database import Database
from shunter.storage.settings import Settings
from shunter.storage.worker_registry import WorkerRegistry
from tests.acceptance.fleet import DOUBLE, write_model
from tests.acceptance.test_up import is_running
from tests.acceptance.up import running_up
from tests.waiting import wait_until

GATED = """
import time
from pathlib import Path

class Model:
    def forward(self, rows):
        while not Path(rows[0]["gate"]).exists():
            time.sleep(0.01)
        return [{factor} for _ in rows]
"""


def at_work(database: Database) -> tuple[str, int, int] | None:
    """What the only worker says that its first model is at."""
    work = next(s.at_work for worker in WorkerRegistry(database).present() for s in worker.serves)
    return (work.stage, work.rows, work.jobs) if work is not None else None


def test_a_fleet_for_a_block_serves_models_by_name_and_leaves_nothing_behind(tmp_path: Path) -> None:
    version = write_model(tmp_path, "double", DOUBLE)
    others = set(psutil.Process().children(recursive=True))
    fleet = shunter.local({"twice": version, "double": version / "model.py"})
    with fleet as client:
        assert client.submit("twice", [3]).outputs() == [6]
        assert client.submit("double", [4]).outputs() == [8]
        started = set(psutil.Process().children(recursive=True)) - others
        (directory,) = {Path(p.environ()["SHUNTER_DATA"]).parent for p in started if "worker" in p.cmdline()}
    wait_until(lambda: not any(map(is_running, started)))
    assert not directory.exists()


def test_a_fleet_that_nobody_stops_ends_with_its_program(tmp_path: Path) -> None:
    write_model(tmp_path / "models", "double", DOUBLE)
    program = """
import psutil, shunter
client = shunter.local().start()
print(client.submit("double", [3]).outputs(), *[p.pid for p in psutil.Process().children(recursive=True)])
"""
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    outputs, _, pids = ran.stdout.strip().partition("] ")
    assert (outputs, ran.stderr) == ("[6", "")
    assert pids
    wait_until(lambda: not any(psutil.pid_exists(int(pid)) for pid in pids.split()))


def test_without_a_model_it_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="shunter models new"):
        shunter.local(tmp_path / "none").start()


def test_a_changed_model_is_served_and_a_running_job_ends_on_the_old_one(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    write_model(tmp_path / "models", "gated", GATED.format(factor=1))
    row = {"gate": str(gate)}
    with running_up(tmp_path, "--no-flower", "--reload", "--memory", "4GiB", "--pool", "mine") as up:
        settings = Settings.from_environment(up.exports())
        with Client(settings=settings) as client, closing(Database(settings.database_url)) as database:
            old = client.submit("gated", [row])
            wait_until(lambda: at_work(database) == ("forward", 1, 1), 30)
            (tmp_path / "models" / "gated" / "1" / "model.py").write_text(GATED.format(factor=2))
            wait_until(lambda: "gated is published as version 2" in up.err(), 30)
            (worker,) = WorkerRegistry(database).present()
            assert (worker.pool, worker.memory_budget_bytes) == ("mine", 4 * 2**30)
            wait_until(lambda: WorkerRegistry(database).present()[0].serving("gated", 2), 30)
            new = client.submit("gated", [row], version=2)
            gate.touch()
            assert (old.outputs(), new.outputs()) == ([1], [2])
