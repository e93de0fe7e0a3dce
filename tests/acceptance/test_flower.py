"""Stock Flower sees the fleet at work: workers, envelopes as tasks, and the length of each queue."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from shunter import Client
from shunter.local_fleet import LocalFleet
from tests.acceptance.fleet import running_fleet, write_model
from tests.acceptance.gated import Gate
from tests.waiting import wait_until

ODD = """
class Model:
    def forward(self, rows):
        if any(row % 2 == 0 for row in rows):
            raise ValueError("even")
        return rows
"""


class FlowerApi:
    """The JSON side of Flower."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def get(self, path: str) -> Any:
        return self._client.get(path).raise_for_status().json()

    def task(self, id: str) -> Any:
        answer = self._client.get(f"/api/task/info/{id}")
        return answer.json() if answer.status_code == 200 else {"state": None}

    def tasks(self) -> list[Any]:
        return list(self.get("/api/tasks").values())


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


@pytest.fixture
def fleet(tmp_path: Path, gate: Gate) -> Iterator[LocalFleet]:
    models = tmp_path / "models"
    gate.publish(models, "gated", toml="[batching]\nmax_rows = 4")
    write_model(models, "odd", ODD)
    with running_fleet(tmp_path, models, flower=True) as fleet:
        yield fleet


@pytest.fixture
def client(fleet: LocalFleet) -> Iterator[Client]:
    with Client(settings=fleet.settings) as client:
        yield client


@pytest.fixture
def flower(fleet: LocalFleet, client: Client) -> Iterator[FlowerApi]:
    """Flower, once the worker's events are switched on."""
    assert fleet.flower_url is not None
    with httpx.Client(base_url=fleet.flower_url, timeout=30) as http:
        api = FlowerApi(http)

        def sees_a_job() -> bool:
            job = client.submit("odd", [1])
            job.wait(timeout=30)
            return api.task(job.id)["state"] is not None

        wait_until(sees_a_job, timeout_s=60)
        yield api


def test_a_job_of_its_own_envelope_moves_under_its_id(client: Client, flower: FlowerApi, gate: Gate) -> None:
    job = client.submit("gated", [1, 2, 3])
    gate.wait_for_batch()
    task = wait_until(lambda: (t := flower.task(job.id))["state"] == "STARTED" and t)
    assert task["name"] == "infer.gated"
    assert "gated v1: 1 job, 3 rows" in task["args"]
    workers = flower.get("/api/workers?status=1")
    assert list(workers.values()) == [True]
    wait_until(lambda: [worker["active"] for worker in flower.get("/workers?json=1")["data"]] == [1])
    gate.open()
    done = wait_until(lambda: (t := flower.task(job.id))["state"] == "SUCCESS" and t)
    assert done["result"] == "3 succeeded, 0 failed in 1 batch of 3 rows (1 idle)"
    assert done["runtime"] > 0


def test_many_items_are_one_task_with_true_counts(client: Client, flower: FlowerApi) -> None:
    items = client.submit_many("odd", [2 * n + 1 for n in range(254)] + [2, 4])
    items[-1].wait(timeout=30)

    def ended() -> list[Any]:
        ours = [task for task in flower.tasks() if items[0].id.split(".")[0] in str(task["kwargs"])]
        return [task for task in ours if task["state"] == "SUCCESS"]

    (task,) = wait_until(ended)
    assert "256 rows" in task["args"]
    assert task["result"].startswith("254 succeeded, 2 failed")


def test_queue_lengths_are_told_by_model(client: Client, flower: FlowerApi, gate: Gate) -> None:
    jobs = [client.submit("gated", [n]) for n in range(60)]
    gate.wait_for_batch()

    def waiting() -> int:
        flower.get("/api/workers?refresh=1")
        lengths = {
            queue["name"]: queue["messages"] for queue in flower.get("/api/queues/length")["active_queues"]
        }
        return int(lengths.get("infer.gated", 0))

    assert wait_until(waiting, timeout_s=30) > 0
    gate.open()
    assert [job.outputs() for job in jobs] == [[n + 1] for n in range(60)]


def test_no_task_stays_started_after_its_worker_died(client: Client, flower: FlowerApi, gate: Gate) -> None:
    job = client.submit("gated", [1])
    engine = gate.wait_for_batch()
    wait_until(lambda: flower.task(job.id)["state"] == "STARTED")
    os.kill(psutil.Process(engine).ppid(), signal.SIGKILL)
    gate.open()
    wait_until(lambda: flower.task(job.id)["state"] != "STARTED", timeout_s=40)
    assert job.outputs() == [2]
