"""Celery's own remote control, from a stock command line: it sees the hub's work, and really moves it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from celery import Celery

from shunter import Client
from shunter.local_fleet import LocalFleet
from tests.acceptance.fleet import DOUBLE, running_fleet, write_model
from tests.acceptance.gated import Gate
from tests.acceptance.stock_celery import celery, send_tasks, submit_task
from tests.waiting import wait_until

Control = Callable[..., Any]


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


@pytest.fixture
def fleet(tmp_path: Path, gate: Gate) -> Iterator[LocalFleet]:
    models = tmp_path / "models"
    gate.publish(models, "gated", toml="[batching]\nmax_rows = 2")
    write_model(models, "double", DOUBLE)
    with running_fleet(tmp_path, models) as fleet:
        yield fleet
        gate.open()


@pytest.fixture
def client(fleet: LocalFleet) -> Iterator[Client]:
    with Client(settings=fleet.settings) as client:
        yield client


@pytest.fixture
def control(fleet: LocalFleet) -> Control:
    """The answer of the one worker."""
    return partial(celery, fleet.settings.redis_url, f"worker-1@{socket.gethostname()}")


def ids(requests: list[dict[str, Any]]) -> set[str]:
    return {request["id"] for request in requests}


def test_inspect_sees_the_worker_and_its_queues(client: Client, control: Control) -> None:
    assert control("inspect", "ping") == {"ok": "pong"}
    assert {queue["name"] for queue in control("inspect", "active_queues")} == {"infer.double", "infer.gated"}
    assert client.submit("double", [1]).outputs() == [2]
    stats = wait_until(lambda: (told := control("inspect", "stats"))["total"] and told, timeout_s=30)
    assert stats["total"] == {"infer.double": 1}


def test_active_and_reserved_are_what_the_hub_has_in_hand(
    client: Client, control: Control, gate: Gate
) -> None:
    first = client.submit("gated", [0])
    gate.wait_for_batch()
    others = [client.submit("gated", [n]) for n in range(1, 4)]
    wait_until(lambda: {job.status().state for job in others} == {"running"})
    active, reserved = control("inspect", "active"), control("inspect", "reserved")
    assert first.id in ids(active)
    assert ids(active) | ids(reserved) == {first.id, *(job.id for job in others)}
    assert reserved
    assert {(request["type"], request["args"]) for request in active + reserved} == {
        ("infer.gated", "('gated v1: 1 job, 1 row',)")
    }
    gate.open()
    assert [job.outputs() for job in others] == [[2], [3], [4]]
    wait_until(lambda: control("inspect", "active") == control("inspect", "reserved") == [], timeout_s=30)


def test_a_cancelled_queue_is_not_fetched_until_it_is_added_again(
    fleet: LocalFleet, client: Client, control: Control
) -> None:
    assert control("control", "cancel_consumer", "infer.double") == {
        "ok": "no longer consuming from infer.double"
    }
    wait_until(lambda: "infer.double" not in str(control("inspect", "active_queues")), timeout_s=30)
    job = client.submit("double", [1])
    control("inspect", "ping")
    assert job.status().state == "queued"
    with redis.Redis.from_url(fleet.settings.redis_url) as queue:
        assert queue.llen("infer.double") == 1
    control("control", "add_consumer", "infer.double")
    assert job.outputs() == [2]


def test_shutdown_drains(client: Client, fleet: LocalFleet, gate: Gate) -> None:
    jobs = [client.submit("gated", [n]) for n in range(5)]
    engine = gate.wait_for_batch()
    hub = psutil.Process(psutil.Process(engine).ppid())
    with Celery(broker=fleet.settings.redis_url) as app:
        app.control.shutdown()
    gate.open()
    hub.wait(30)
    assert [job.outputs() for job in jobs] == [[n + 1] for n in range(5)]


def test_revoke_cancels_queued_and_running_jobs(client: Client, control: Control, gate: Gate) -> None:
    control("control", "cancel_consumer", "infer.double")
    queued, running = client.submit("double", [1]), client.submit("gated", [1])
    gate.wait_for_batch()
    told = control("control", "revoke", queued.id, running.id, "no-such-task")
    assert told["ok"].startswith("tasks {")
    assert told["ok"].endswith("} flagged as revoked")
    assert queued.wait(timeout=30).state == "cancelled"
    assert running.wait(timeout=30).state == "cancelled"
    gate.open()
    assert client.submit("gated", [5]).outputs() == [6]


def test_a_plain_celery_task_is_revoked_by_its_task_id(
    client: Client, fleet: LocalFleet, control: Control, gate: Gate
) -> None:
    (id,) = send_tasks(fleet.settings.redis_url, [submit_task("gated", [1])])
    gate.wait_for_batch()
    assert control("control", "terminate", "TERM", id) == {"ok": f"terminate: {id}"}
    assert client.job(id).wait(timeout=30).state == "cancelled"
