"""A verification of real rows, objects and lists: it tells what is wrong, and nothing that is under way."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
import redis

from shunter.cli import run
from shunter.storage.database import Database
from shunter.storage.envelope import Due, pack
from shunter.storage.ids import new_id
from shunter.storage.job import Move, Priority
from shunter.storage.job_facts import PAGE, JobFactsReader
from shunter.storage.job_repair import JobRepair
from shunter.storage.job_repository import JobRepository
from shunter.storage.payload import encode_rows
from shunter.storage.push import push
from shunter.storage.results import Blob, output_key
from shunter.storage.settings import Settings
from shunter.storage.testing import InMemoryObjectStore
from shunter.storage.verification import Finding, Verification
from shunter.storage.worker_registry import WorkerRegistry
from shunter.workers.queue_verification import LOST_AFTER_S, QueueVerification
from shunter.workers.transport import BUNCH_PREFIX, INDEX_KEY
from tests.fake_worker import register_models
from tests.stored_jobs import age_jobs, insert, insert_claimed, new_job, new_worker, outcome


@pytest.fixture
def jobs(database: Database) -> JobRepository:
    return JobRepository(database)


@pytest.fixture
def worker(database: Database) -> UUID:
    new = new_worker()
    WorkerRegistry(database).register(new)
    return new.incarnation


def no_pause(_: float) -> None:
    """Nothing changes meanwhile."""


def findings(
    database: Database,
    store: InMemoryObjectStore,
    pause: Callable[[float], None] = no_pause,
    *,
    reads_objects: bool = False,
) -> list[Finding]:
    reader = JobFactsReader(database)
    return Verification(reader, store, pause=pause, unnamed_after_s=0.0, reads_objects=reads_objects).run()


def succeed(jobs: JobRepository, worker: UUID, output: Blob | None = None) -> UUID:
    job = insert_claimed(jobs, worker)
    jobs.settle([outcome(job, output=output or Blob(encode_rows([1]), None))], worker=worker)
    return job.id


def test_a_sound_fleet_has_no_findings(database: Database, jobs: JobRepository, worker: UUID) -> None:
    succeed(jobs, worker)
    insert(jobs)
    insert_claimed(jobs, worker)
    lost = insert_claimed(jobs, worker)
    failed = outcome(lost, Move.FAIL, rows_failed=1, error={"code": "x", "message": "y"})
    jobs.settle([failed], worker=worker)
    jobs.cancel(insert(jobs))
    assert findings(database, InMemoryObjectStore()) == []


def test_every_page_is_read(database: Database, jobs: JobRepository) -> None:
    jobs.insert([new_job(id=id) for id in (new_id() for _ in range(PAGE + 2))])
    verification = Verification(JobFactsReader(database), InMemoryObjectStore(), pause=no_pause)
    assert verification.run() == []
    assert verification.jobs == PAGE + 2


def test_a_counter_that_was_changed_by_hand_is_found(
    database: Database, jobs: JobRepository, worker: UUID
) -> None:
    succeed(jobs, worker)
    wrong = succeed(jobs, worker)
    change(database, "UPDATE jobs SET rows_succeeded = 2 WHERE id = %s", wrong)
    assert [(f.check, f.subject) for f in findings(database, InMemoryObjectStore())] == [
        ("counters", str(wrong))
    ]


def test_a_job_of_an_ended_worker_is_stuck_unless_somebody_rescues_it(
    database: Database, jobs: JobRepository, worker: UUID
) -> None:
    job = insert_claimed(jobs, worker)
    WorkerRegistry(database).end([worker])
    assert [f.check for f in findings(database, InMemoryObjectStore())] == ["stuck"]

    def rescued(_: float) -> None:
        repair = JobRepair(database)
        with repair.duty(1) as cursor:
            assert cursor is not None
            assert [requeued.due.id for requeued in repair.rescue(cursor, [worker])] == [job.id]

    assert findings(database, InMemoryObjectStore(), rescued) == []


def test_objects_and_rows_are_compared_both_ways(
    database: Database, jobs: JobRepository, worker: UUID
) -> None:
    store = InMemoryObjectStore()
    job = insert_claimed(jobs, worker)
    named, late = output_key(job.id, job.epoch), output_key(job.id, 0)
    for key in (named, late):
        store.put(key, b"x")
    jobs.settle([outcome(job, output=Blob(None, named))], worker=worker)
    gone = succeed(jobs, worker, Blob(None, output_key(new_id(), 1)))
    told = {(f.check, f.subject) for f in findings(database, store)}
    assert told == {("object", str(gone)), ("unnamed", late)}


def test_a_damaged_object_is_named_by_who_reads_the_objects(
    database: Database, jobs: JobRepository, worker: UUID
) -> None:
    store = InMemoryObjectStore()
    whole, damaged = (insert_claimed(jobs, worker) for _ in range(2))
    for job in (whole, damaged):
        store.put(output_key(job.id, job.epoch), encode_rows([1]))
        jobs.settle([outcome(job, output=Blob(None, output_key(job.id, job.epoch)))], worker=worker)
    assert findings(database, store, reads_objects=True) == []
    key = output_key(damaged.id, damaged.epoch)
    store.put(key, encode_rows([1])[:-1] + b"\xff")
    assert findings(database, store) == []
    (told,) = findings(database, store, reads_objects=True)
    assert (told.check, told.subject) == ("object", str(damaged.id))
    assert told.message.startswith(f"the object {key} is damaged: ")


def test_an_object_of_a_run_under_way_is_not_told(
    database: Database, jobs: JobRepository, worker: UUID
) -> None:
    store = InMemoryObjectStore()
    job = insert_claimed(jobs, worker)
    store.put(output_key(job.id, job.epoch), b"x")
    assert findings(database, store) == []


# Redis


@pytest.fixture
def settings(database_url: str, redis_url: str) -> Settings:
    settings = Settings(database_url=database_url, redis_url=redis_url, object_store="file:///nowhere/at/all")
    register_models(settings, "digits")
    return settings


def queue_findings(settings: Settings, database: Database) -> list[tuple[str, str]]:
    verification = QueueVerification(
        settings.redis_url, JobRepair(database), JobFactsReader(database), pause=no_pause
    )
    return [(finding.check, finding.subject) for finding in verification.run()]


def publish(settings: Settings, *ids: UUID, enqueued_at: float) -> None:
    due = [Due(id, "digits", 1, 1, Priority.STANDARD) for id in ids]
    with redis.Redis.from_url(settings.redis_url) as client:
        push(client, pack(due, enqueued_at))


def test_jobs_with_envelopes_are_no_finding(
    settings: Settings, database: Database, jobs: JobRepository
) -> None:
    id = insert(jobs)
    publish(settings, id, enqueued_at=jobs.get(id).enqueued_at.timestamp())
    assert queue_findings(settings, database) == []


def test_a_job_whose_envelope_is_lost_for_long_is_found(
    settings: Settings, database: Database, jobs: JobRepository
) -> None:
    insert(jobs)
    assert queue_findings(settings, database) == []
    age_jobs(database, LOST_AFTER_S + 5)
    assert queue_findings(settings, database) == [("envelope", "infer.digits")]


def test_a_bunch_that_nobody_acks_is_found(settings: Settings, database: Database) -> None:
    with redis.Redis.from_url(settings.redis_url) as client:
        client.zadd(INDEX_KEY, {BUNCH_PREFIX + "old": 1})
        client.rpush(BUNCH_PREFIX + "lost", "infer.digits", "raw")
    assert sorted(queue_findings(settings, database)) == [
        ("bunch", "shunter.bunch.lost"),
        ("bunch", "shunter.bunch.old"),
    ]


def test_an_envelope_of_another_database_is_found(settings: Settings, database: Database) -> None:
    stranger = uuid4()
    publish(settings, stranger, enqueued_at=0.0)
    assert queue_findings(settings, database) == [("stranger", str(stranger))]


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("environment")
def test_the_command_tells_what_is_wrong_by_its_exit_code(
    database: Database, jobs: JobRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verify"]) == 0
    assert "0 findings in 0 jobs, 0 objects, 0 envelopes" in capsys.readouterr().err
    wrong = insert(jobs)
    change(database, "UPDATE jobs SET finished_at = now() WHERE id = %s", wrong)
    assert run(["verify", "--json"]) == 1
    assert f'"subject": "{wrong}"' in capsys.readouterr().out


def change(database: Database, statement: str, id: UUID) -> None:
    with database.transaction() as cursor:
        cursor.execute(statement, (id,))
