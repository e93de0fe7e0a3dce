"""Plain Celery producers, poison on the queue, and a stock Celery worker as a neighbour on the same Redis."""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import redis

from shunter import Client
from shunter.local_fleet import LocalFleet
from shunter.storage.database import Database
from shunter.storage.errors import NotFound
from shunter.storage.job_repository import JobRepository
from shunter.storage.model_registry import ModelRegistry
from shunter.storage.quarantine import Misfit, Quarantine, Quarantined
from tests.acceptance.fleet import DOUBLE, fleet_of
from tests.acceptance.stock_celery import SEND_NOTE, python, send_tasks, stock_worker, submit_task
from tests.acceptance.up import shunter
from tests.celery_messages import submission_message
from tests.fake_worker import model_version
from tests.waiting import wait_until

QUEUE = "infer.double"

fleet = fleet_of({"double": DOUBLE})


@pytest.fixture
def client(fleet: LocalFleet) -> Iterator[Client]:
    with Client(settings=fleet.settings) as client:
        yield client


@pytest.fixture
def database(fleet: LocalFleet) -> Iterator[Database]:
    with closing(Database(fleet.settings.database_url)) as database:
        yield database


class Line:
    """The queue of the model, and what its workers could not understand."""

    def __init__(self, queue: redis.Redis, quarantine: Quarantine) -> None:
        self.redis = queue
        self.quarantine = quarantine

    def push(self, *raws: bytes) -> None:
        self.redis.lpush(QUEUE, *raws)

    def kept(self, raw: bytes) -> Quarantined | None:
        try:
            return self.quarantine.get(Misfit(QUEUE, raw, "").id)
        except NotFound:
            return None

    def quarantined(self, raw: bytes) -> Quarantined:
        wait_until(lambda: self.kept(raw), timeout_s=20)
        return self.quarantine.get(Misfit(QUEUE, raw, "").id)


@pytest.fixture
def line(fleet: LocalFleet, database: Database) -> Iterator[Line]:
    with redis.Redis.from_url(fleet.settings.redis_url) as queue:
        yield Line(queue, Quarantine(database))


@pytest.fixture
def shell(fleet: LocalFleet, tmp_path: Path) -> Callable[..., Any]:
    """A `shunter quarantine` command in the fleet's environment; its JSON answer."""

    def run(*arguments: str) -> Any:
        answer = shunter(
            "quarantine",
            *arguments,
            "--json",
            directory=tmp_path,
            environment=fleet.settings.environment(),
        )
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)

    return run


def hub_pids(fleet: LocalFleet) -> list[int]:
    workers = httpx.get(f"{fleet.api_url}/v1/workers").raise_for_status().json()["workers"]
    return [worker["pid"] for worker in workers if worker["live"]]


# Good messages


def test_hundreds_of_plain_celery_tasks_are_jobs(client: Client, fleet: LocalFleet) -> None:
    tasks = [submit_task("double", [n, n + 0.5]) for n in range(300)]
    tasks[7]["priority"] = 3
    tasks[8]["kwargs"].update(version=1, metadata={"run": "nightly"})
    ids = send_tasks(fleet.settings.redis_url, tasks)
    wait_until(lambda: all(known(client, id) for id in ids))
    assert [client.job(id).outputs() for id in ids] == [[2 * n, 2 * n + 1.0] for n in range(300)]
    assert client.job(ids[7]).status().priority == "interactive"
    assert client.job(ids[8]).status().metadata == {"run": "nightly"}
    assert {client.job(id).status().priority for id in ids} == {"standard", "interactive"}


def test_eta_and_expires_are_kept(client: Client, fleet: LocalFleet) -> None:
    later, expired = send_tasks(
        fleet.settings.redis_url,
        [submit_task("double", [1], countdown=2), submit_task("double", [1], expires="2020-01-01T00:00:00")],
    )
    wait_until(lambda: known(client, later))
    job = client.job(later)
    assert job.status().state == "queued"
    assert job.outputs() == [2]
    wait_until(lambda: known(client, expired))
    assert client.job(expired).wait(timeout=30).state == "expired"


def known(client: Client, id: str) -> bool:
    try:
        client.job(id).status()
    except NotFound:
        return False
    return True


def test_a_message_delivered_twice_is_one_job(client: Client, line: Line, database: Database) -> None:
    id = str(uuid4())
    raw = submission_message("double", [4], task_id=id)
    line.push(raw, raw)
    wait_until(lambda: known(client, id))
    assert client.job(id).outputs() == [8]
    line.push(raw)
    last = str(uuid4())
    line.push(submission_message("double", [5], task_id=last))
    wait_until(lambda: known(client, last))
    assert client.job(last).outputs() == [10]
    assert JobRepository(database).get(UUID(id)).epoch == 1
    assert line.kept(raw) is None


def test_another_body_under_a_known_id_is_quarantined(client: Client, line: Line) -> None:
    id = str(uuid4())
    other = submission_message("double", [7], task_id=id)
    line.push(submission_message("double", [6], task_id=id), other)
    assert "is known with another body" in line.quarantined(other).reason
    assert client.job(id).outputs() == [12]


def test_a_message_without_properties_is_understood(client: Client, line: Line) -> None:
    id = str(uuid4())
    message = json.loads(submission_message("double", [4], task_id=id))
    del message["properties"]
    line.push(json.dumps(message).encode())
    wait_until(lambda: known(client, id))
    assert client.job(id).outputs() == [8]


# Bad messages


def changed(**changes: Any) -> bytes:
    return json.dumps({**json.loads(submission_message("double", [1])), **changes}).encode()


def with_body(body: bytes) -> bytes:
    return changed(body=base64.b64encode(body).decode())


POISON = {
    "nothing": b"",
    "text": b"I am no message",
    "JSON array": b"[1, 2, 3]",
    "JSON string": b'"text"',
    "1000 deep JSON": b"[" * 1000 + b"]" * 1000,
    "100000 deep JSON": b'{"a":' * 100_000,
    "NUL bytes": b"\x00" * 64,
    "invalid utf-8": b'\xff\xfe{"headers": "\xc3\x28"}',
    "2 MB of garbage": bytes(range(256)) * 8192,
    "no headers": b'{"body": "", "properties": {}, "content-type": "application/json"}',
    "bad base64": changed(body="W1tdLCB"),
    "a number as body": changed(body=7),
    "empty body": changed(body=""),
    "no task id": changed(headers={"task": "shunter.submit"}),
    "body of another shape": with_body(b'{"model": "double"}'),
    "deep body": with_body(b"[[]," * 900 + b"1" + b"]" * 900),
    "deep rows": with_body(
        b'[[], {"model": "double", "rows": [' + b"[" * 900 + b"]" * 900 + b"]}, {}]",
    ),
    "NUL in the metadata": submission_message("double", [1], metadata={"a": "\x00"}),
    "pickle": changed(
        **{
            "body": base64.b64encode(pickle.dumps([[], {}, {}])).decode(),
            "content-type": "application/x-python-serialize",
        }
    ),
    "chain": submission_message("double", [1], embed={"chain": [{"task": "next"}]}),
    "callback": submission_message("double", [1], embed={"callbacks": [{"task": "next"}]}),
    "another task": changed(headers={"task": "shop.pay", "id": str(uuid4())}),
    "an envelope of no jobs": changed(headers={"task": "shunter.run", "id": str(uuid4())}),
    "an unknown version": submission_message("double", [1], version=99),
    "too many rows": submission_message("double", [0] * 10_001),
}


@pytest.mark.parametrize("raw", POISON.values(), ids=POISON.keys())
def test_poison_is_quarantined_and_everything_else_goes_on(
    fleet: LocalFleet, client: Client, line: Line, raw: bytes
) -> None:
    hubs = hub_pids(fleet)
    before = client.submit("double", [1])
    line.push(raw)
    after = client.submit("double", [2])
    entry = line.quarantined(raw)
    assert (entry.raw, entry.queue) == (raw, QUEUE)
    assert entry.reason
    assert (before.outputs(), after.outputs()) == ([2], [4])
    assert hub_pids(fleet) == hubs
    assert len(hubs) == 1


def test_quarantine_is_listed_shown_and_retried(
    client: Client, line: Line, shell: Callable[..., Any]
) -> None:
    raw = b'\x00\x1b[31m{"no": "message"}\xff'
    line.push(raw)
    entry = line.quarantined(raw)
    listed = next(found for found in shell("list") if found["id"] == str(entry.id))
    assert (listed["queue"], listed["size"], "raw" in listed) == (QUEUE, len(raw), False)
    assert listed["reason"] == entry.reason
    shown = shell("show", str(entry.id))
    assert base64.b64decode(shown["raw"]["$bytes"]) == raw

    assert shell("retry", str(entry.id)) == {"retried": [str(entry.id)], "skipped": []}
    again = wait_until(lambda: (e := line.kept(raw)) and e.created_at > entry.created_at and e)
    assert again
    assert (again.raw, again.reason) == (raw, entry.reason)
    assert line.redis.llen(QUEUE) == 0


def test_quarantine_tells_people_what_is_wrong(fleet: LocalFleet, line: Line, tmp_path: Path) -> None:
    raw = b"\x1b[31mred"
    line.push(raw)
    entry = line.quarantined(raw)
    environment = fleet.settings.environment()

    def run(*arguments: str) -> tuple[int, str]:
        answer = shunter("quarantine", *arguments, directory=tmp_path, environment=environment)
        return answer.returncode, answer.stdout + answer.stderr

    code, table = run("list")
    assert (code, str(entry.id) in table, QUEUE in table) == (0, True, True)
    code, text = run("show", str(entry.id))
    assert (code, "\x1b" in text, "\\x1b[31mred" in text) == (0, False, True)
    assert run("retry")[0] == 2
    code, text = run("retry", str(uuid4()))
    assert (code, "`shunter quarantine list` shows what there is" in text) == (1, True)


# A neighbour


def test_a_stock_celery_worker_on_the_same_redis_is_left_alone(
    fleet: LocalFleet, client: Client, line: Line, tmp_path: Path
) -> None:
    with stock_worker(fleet.settings.redis_url, tmp_path):
        python("-c", SEND_NOTE, "first", directory=tmp_path)
        wait_until((tmp_path / "begun-first").exists, timeout_s=30)
        unacked: Any = wait_until(lambda: line.redis.hgetall("unacked"))
        garbage = b"garbage beside a neighbour"
        line.push(garbage, submission_message("double", [1]))
        line.quarantined(garbage)
        assert client.submit("double", [3]).outputs() == [6]
        assert line.redis.hgetall("unacked") == unacked
        (tmp_path / "go").touch()
        python("-c", SEND_NOTE, "second", directory=tmp_path)
        wait_until((tmp_path / "done-second").exists, timeout_s=30)
        assert (tmp_path / "done-first").exists()
        wait_until(lambda: not line.redis.exists("unacked"))


# Last, because from then on the newest version is one that nobody serves


def test_a_mended_message_becomes_its_job_when_it_is_retried(
    client: Client, line: Line, database: Database, shell: Callable[..., Any]
) -> None:
    id = str(uuid4())
    raw = submission_message("double", [1], task_id=id, version=2)
    line.push(raw)
    assert "version 2" in line.quarantined(raw).reason
    assert not known(client, id)
    ModelRegistry(database).register([model_version("double", 2)])
    entries = set(line.quarantine.ids())
    assert set(shell("retry", "--all")["retried"]) == {str(entry) for entry in entries}
    wait_until(lambda: known(client, id))
    assert client.job(id).status().version == 2
    wait_until(lambda: set(line.quarantine.ids()) == entries - {Misfit(QUEUE, raw, "").id}, timeout_s=20)
