"""kill -9 in the middle of a batch, and cancelling there: jobs end once, with the right outputs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest

from shunter import Client
from shunter.local_fleet import LocalFleet
from shunter.storage.database import Database
from shunter.storage.job import Job
from shunter.storage.job_repository import JobRepository
from tests.acceptance.fleet import DOUBLE, running_fleet, write_model
from tests.acceptance.gated import Gate
from tests.waiting import wait_until

SUICIDAL = """
import signal

class Model:
    def preprocess(self, row):
        if row == "die early":
            signal.raise_signal(signal.SIGSEGV)
        return row

    def forward(self, rows):
        if "die" in rows:
            signal.raise_signal(signal.SIGSEGV)
        return rows

    def postprocess(self, output):
        if output == "die late":
            signal.raise_signal(signal.SIGSEGV)
        return output
"""

HANGING = """
import time

class Model:
    def forward(self, rows):
        while "hang" in rows:
            time.sleep(1)
        return rows
"""


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


@pytest.fixture
def fleet(tmp_path: Path, gate: Gate) -> Iterator[LocalFleet]:
    models = tmp_path / "models"
    gate.publish(models, "gated", toml="[batching]\nmax_rows = 8")
    write_model(models, "double", DOUBLE)
    write_model(models, "suicidal", SUICIDAL)
    write_model(models, "hanging", HANGING, toml="[run]\nbatch_timeout_s = 1")
    with running_fleet(tmp_path, models) as fleet:
        yield fleet


@pytest.fixture
def client(fleet: LocalFleet) -> Iterator[Client]:
    with Client(settings=fleet.settings) as client:
        yield client


def stored(fleet: LocalFleet, id: str) -> Job:
    """A job's row."""
    database = Database(fleet.settings.database_url)
    try:
        return JobRepository(database).get(UUID(id))
    finally:
        database.close()


def test_killing_the_engine_in_mid_batch_loses_nothing(client: Client, fleet: LocalFleet, gate: Gate) -> None:
    jobs = [client.submit("gated", [n, 10 * n]) for n in range(20)]
    engine = gate.wait_for_batch()
    hub = psutil.Process(engine).ppid()
    os.kill(engine, signal.SIGKILL)
    gate.open()
    assert [job.outputs() for job in jobs] == [[n + 1, 10 * n + 1] for n in range(20)]
    assert psutil.pid_exists(hub)
    rows = [stored(fleet, job.id) for job in jobs]
    assert {row.epoch for row in rows} == {1}
    assert max(row.deaths for row in rows) == 1
    assert {row.attempts for row in rows} == {0}


def test_killing_the_hub_leaves_no_engine_and_another_finishes(
    client: Client, fleet: LocalFleet, gate: Gate
) -> None:
    jobs = [client.submit("gated", [n]) for n in range(30)]
    engine = gate.wait_for_batch()
    os.kill(psutil.Process(engine).ppid(), signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(engine), timeout_s=5)
    gate.open()
    for job in jobs:
        job.wait(timeout=30)
    assert [job.outputs() for job in jobs] == [[n + 1] for n in range(30)]
    assert {stored(fleet, job.id).deaths for job in jobs} == {0}


def test_rows_that_kill_their_engine_fail_alone_at_whatever_stage(client: Client, fleet: LocalFleet) -> None:
    mixed: list[Any] = list(range(64))
    for index, row in {5: "die", 40: "die early", 41: "die late"}.items():
        mixed[index] = row
    poisoned, killer = client.submit("suicidal", mixed), client.submit("suicidal", ["die"])
    others = [client.submit("suicidal", [n]) for n in range(20)]
    assert [job.outputs() for job in others] == [[n] for n in range(20)]
    assert [(error.index, error.code) for error in poisoned.errors()] == [
        (5, "engine_died"),
        (40, "engine_died"),
        (41, "engine_died"),
    ]
    assert poisoned.outputs(errors="none") == [row if isinstance(row, int) else None for row in mixed]
    status = killer.wait(timeout=60)
    assert (status.state, status.error and status.error["code"]) == ("failed", "engine_died")
    assert "SIGSEGV" in str(status.error)
    assert {stored(fleet, job.id).deaths for job in (poisoned, killer)} == {1}


def test_rows_that_hang_their_engine_fail_alone(client: Client) -> None:
    mixed: list[Any] = [*range(20), "hang", *range(20)]
    poisoned, hanging = client.submit("hanging", mixed), client.submit("hanging", ["hang"])
    others = [client.submit("hanging", [n]) for n in range(20)]
    assert [job.outputs() for job in others] == [[n] for n in range(20)]
    assert [(error.index, error.code) for error in poisoned.errors()] == [(20, "batch_timeout")]
    status = hanging.wait(timeout=60)
    assert (status.state, status.error and status.error["code"]) == ("failed", "engine_died")
    assert "batch_timeout_s" in str(status.error)


def test_cancelling_a_running_job_refuses_its_outcome(client: Client, fleet: LocalFleet, gate: Gate) -> None:
    cancelled, other = client.submit("gated", [1]), client.submit("gated", [2])
    gate.wait_for_batch()
    cancelled.cancel()
    gate.open()
    assert other.outputs() == [3]
    status = cancelled.wait(timeout=10)
    assert (status.state, status.rows.succeeded) == ("cancelled", 0)


def test_a_drained_worker_gives_back_what_it_has_not_begun(
    client: Client, fleet: LocalFleet, gate: Gate
) -> None:
    jobs = [client.submit("gated", [n]) for n in range(40)]
    engine = gate.wait_for_batch()
    hub = psutil.Process(engine).ppid()
    os.kill(hub, signal.SIGTERM)
    gate.open()
    wait_until(lambda: not psutil.pid_exists(engine), timeout_s=30)
    assert [job.outputs() for job in jobs] == [[n + 1] for n in range(40)]
    assert {stored(fleet, job.id).attempts for job in jobs} == {0}


def test_the_gate_of_these_tests_counts_batches(client: Client, fleet: LocalFleet, gate: Gate) -> None:
    gate.open()
    outputs: Any = client.submit("gated", list(range(20))).outputs()
    assert outputs == list(range(1, 21))
    assert len(gate.begun()) >= 3
