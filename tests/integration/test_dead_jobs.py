"""Dead jobs keep their rows and the history of their runs, and are redriven as new jobs, once each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from shunter import Client, Conflict, Job, UnknownJob, UnknownModel
from shunter.cli import run
from shunter.producers.api import create_app
from shunter.storage import attempts
from shunter.storage.database import Database
from shunter.storage.dead_jobs import DeadJobs, Filter
from shunter.storage.ids import new_id
from shunter.storage.job import JobState, Move
from shunter.storage.job_repository import JobRepository
from shunter.storage.model_registry import ModelRegistry
from shunter.storage.settings import Settings
from shunter.storage.worker_registry import WorkerRegistry
from tests.api_server import serving
from tests.fake_worker import FakeWorker, echo, model_version, register_models
from tests.stored_jobs import age_jobs, claim, insert, insert_claimed, new_worker, outcome

BAD = {"fail": "broken"}


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    settings = Settings(database_url=database_url, redis_url=redis_url, object_store=f"file://{tmp_path}")
    register_models(settings, "echo")
    return settings


@pytest.fixture(params=["direct", "http"])
def client(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Client]:
    server = serving(create_app(settings)) if request.param == "http" else nullcontext()
    with server as url, Client(url, settings=settings) as client:
        yield client


@pytest.fixture
def jobs(database: Database) -> JobRepository:
    return JobRepository(database)


@pytest.fixture
def dead(database: Database) -> DeadJobs:
    return DeadJobs(database)


@pytest.fixture
def worker(settings: Settings) -> Iterator[FakeWorker]:
    with FakeWorker(settings, {"echo": echo}) as worker:
        yield worker


def ended(client: Client, rows: list[object]) -> Job:
    job = client.submit("echo", rows, priority="bulk", metadata={"run": 7})
    job.wait(20)
    return job


# Redriving


@pytest.mark.usefixtures("worker")
def test_only_the_failed_rows_of_a_job_run_again(client: Client, jobs: JobRepository) -> None:
    job = ended(client, ["a", BAD, "b", {"fail": "other"}])
    again = client.redrive(job.id)
    again.wait(20)
    stored = jobs.get(UUID(again.id))
    assert (stored.rows, stored.redriven_from) == (2, UUID(job.id))
    assert (stored.priority.label, stored.metadata) == ("bulk", {"run": 7})
    assert [error.code for error in again.errors()] == ["broken", "other"]


@pytest.mark.usefixtures("worker")
def test_a_dead_job_runs_again_whole(client: Client, jobs: JobRepository) -> None:
    job = ended(client, [BAD, BAD])
    again = client.redrive(job.id)
    assert jobs.get(UUID(again.id)).rows == 2
    assert job.status().state == JobState.FAILED


@pytest.mark.usefixtures("worker")
def test_redriving_twice_gives_the_same_job_unless_asked_for_another(client: Client) -> None:
    job = ended(client, [BAD])
    first = client.redrive(job.id)
    assert client.redrive(job.id).id == first.id
    assert client.redrive(job.id, again=True).id != first.id
    assert client.redrive(job.id).id == first.id


@pytest.mark.usefixtures("worker")
def test_a_mended_version_takes_the_rows(client: Client, database: Database, jobs: JobRepository) -> None:
    job = ended(client, [BAD])
    ModelRegistry(database).register([model_version("echo", 2)])
    mended = client.redrive(job.id, version=2)
    assert jobs.get(UUID(mended.id)).version == 2
    assert client.redrive(job.id, version=2).id == mended.id
    assert client.redrive(job.id).id != mended.id
    with pytest.raises(UnknownModel):
        client.redrive(job.id, version=9)


@pytest.mark.usefixtures("worker")
def test_rows_in_the_object_store_run_again(client: Client) -> None:
    large = {"fail": "broken", "text": "x" * 300_000}
    again = client.redrive(ended(client, [large, "fine"]).id)
    again.wait(20)
    assert [error.code for error in again.errors()] == ["broken"]


@pytest.mark.usefixtures("worker")
def test_what_has_no_failed_rows_is_not_redriven(client: Client) -> None:
    fine = ended(client, ["a"])
    with pytest.raises(Conflict, match="all its rows succeeded"):
        client.redrive(fine.id)
    with pytest.raises(UnknownJob):
        client.redrive(new_id())
    with pytest.raises(Conflict, match="one row of job"):
        client.redrive(f"{fine.id}.0")


def test_a_job_that_has_not_ended_or_was_cancelled_is_not_redriven(client: Client) -> None:
    job = client.submit("echo", [BAD])
    with pytest.raises(Conflict, match="queued"):
        client.redrive(job.id)
    job.cancel()
    with pytest.raises(Conflict, match="cancelled"):
        client.redrive(job.id)


# The history of attempts


def fail_once(jobs: JobRepository, id: UUID, worker: UUID, *, message: str, move: Move = Move.RETRY) -> None:
    (job,) = claim(jobs, id, worker=worker)
    error = {"code": "transient", "message": message}
    failed = int(move is Move.FAIL)
    ended = outcome(job, move, error=error, counts_attempt=True, rows_failed=failed)
    assert jobs.settle([ended], worker=worker) == {id}


def test_every_failed_run_is_remembered_with_its_worker(
    database: Database, jobs: JobRepository, dead: DeadJobs
) -> None:
    registered = new_worker(name="gpu7@there")
    WorkerRegistry(database).register(registered)
    id = insert(jobs)
    fail_once(jobs, id, registered.incarnation, message="first\0")
    fail_once(jobs, id, registered.incarnation, message="second", move=Move.FAIL)
    assert [(run.epoch, run.worker, run.code, run.message) for run in dead.history(id)] == [
        (1, "gpu7@there", "transient", "first\\x00"),
        (2, "gpu7@there", "transient", "second"),
    ]


def test_the_last_runs_are_kept_and_no_more(jobs: JobRepository, dead: DeadJobs) -> None:
    id, other, worker = insert(jobs), insert(jobs), new_id()
    fail_once(jobs, other, worker, message="another job's")
    for number in range(attempts.KEPT + 3):
        fail_once(jobs, id, worker, message=str(number))
    assert [run.message for run in dead.history(id)] == [str(n) for n in range(3, attempts.KEPT + 3)]
    assert len(dead.history(other)) == 1


def test_a_settlement_of_a_lost_claim_is_not_remembered(jobs: JobRepository, dead: DeadJobs) -> None:
    job = insert_claimed(jobs, new_id())
    refused = outcome(job, Move.FAIL, error={"code": "x", "message": "y"}, rows_failed=1)
    assert jobs.settle([refused], worker=new_id()) == set()
    assert dead.history(job.id) == []


# Finding them


def kill(jobs: JobRepository, code: str, **changes: Any) -> UUID:
    job = insert_claimed(jobs, worker := new_id(), **changes)
    error = {"code": code, "message": "y"}
    jobs.settle([outcome(job, Move.FAIL, error=error, rows_failed=job.rows)], worker=worker)
    return job.id


def test_filters_say_which_dead_jobs_are_meant(
    database: Database, jobs: JobRepository, dead: DeadJobs
) -> None:
    def found(**conditions: Any) -> list[UUID]:
        return [job.id for job in dead.find(Filter(**conditions))]

    old = kill(jobs, "oom")
    age_jobs(database, 3600)
    crashed, recent = kill(jobs, "engine_died"), kill(jobs, "oom")
    partial = insert_claimed(jobs, worker := new_id(), rows=2)
    jobs.settle([outcome(partial, rows_succeeded=1, rows_failed=1)], worker=worker)
    insert(jobs)
    assert found() == [recent, crashed, old]
    assert found(code="oom") == [recent, old]
    assert found(code="oom", since_s=600.0) == [recent]
    assert found(model="letters") == []
    assert found(partial=True) == [partial.id, recent, crashed, old]
    assert [job.id for job in dead.find(Filter(), before=recent, limit=1)] == [crashed]


# The commands


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("environment", "worker")
def test_the_commands_list_show_and_redrive(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    with Client(settings=settings) as client:
        job, partial = ended(client, [BAD]), ended(client, [BAD, "fine"])
    assert run(["dead", "list"]) == 0
    assert job.id in capsys.readouterr().out
    assert run(["dead", "show", job.id]) == 0
    assert "broken" in capsys.readouterr().out
    assert run(["dead", "redrive", job.id, "--json"]) == 0
    first = orjson.loads(capsys.readouterr().out)["redriven"]
    assert run(["dead", "redrive", "--all", "--rows", "--json"]) == 0
    both = orjson.loads(capsys.readouterr().out)["redriven"]
    assert both[job.id] == first[job.id]
    assert partial.id in both


@pytest.mark.parametrize(
    "arguments", [[], [str(new_id()), "--all"], [str(new_id()), "--model", "x"], ["--all", "--since", "3"]]
)
def test_a_redrive_that_names_nothing_clearly_is_a_usage_error(arguments: list[str]) -> None:
    assert run(["dead", "redrive", *arguments]) == 2
