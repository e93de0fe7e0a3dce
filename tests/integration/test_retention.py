"""What has been kept long enough goes, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from shunter.storage import failpoints, job_retention, partitions
from shunter.storage.database import Database
from shunter.storage.duty_locks import DutyLock
from shunter.storage.errors import DatabaseUnavailable
from shunter.storage.job import Move
from shunter.storage.job_facts import JobFactsReader
from shunter.storage.job_repair import JobRepair
from shunter.storage.job_repository import JobRepository
from shunter.storage.job_retention import JobRetention, Keep
from shunter.storage.object_sweep import ObjectSweep
from shunter.storage.quarantine import Misfit, Quarantine
from shunter.storage.results import Blob, input_key, output_key
from shunter.storage.settings import DAY_S
from shunter.storage.testing import InMemoryObjectStore
from shunter.workers.retention import Retention, Sweep
from tests.stored_jobs import claim, insert, insert_claimed, new_job, outcome

WEEKS_AGO = 3
KEEP = Keep(keep_s=7 * DAY_S, keep_failed_s=30 * DAY_S)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    with database.transaction() as cursor:
        for statement in partitions.statements(past(), weeks=1):
            cursor.execute(statement)
    yield database
    database.close()


@pytest.fixture
def jobs(database: Database) -> JobRepository:
    return JobRepository(database)


@pytest.fixture
def retention(database: Database) -> Retention:
    return Retention(JobRepair(database), JobRetention(database, KEEP))


def past(weeks: int = WEEKS_AGO) -> datetime:
    return datetime.now(UTC) - timedelta(weeks=weeks)


def foreign_id() -> UUID:
    """Some id that is not ours, and of none of the weeks that there are: one of thousands might be."""
    return UUID(int=uuid4().int | 1 << 127)


def old_id(weeks: int = WEEKS_AGO) -> UUID:
    """A UUIDv7 of that time."""
    return UUID(int=partitions.lowest_id(past(weeks)).int | 0x7 << 76 | 0b10 << 62 | uuid4().int % 2**60)


def end(jobs: JobRepository, database: Database, id: UUID, move: Move, *, days_ago: float) -> UUID:
    """Have a job end this way, so many days ago."""
    insert(jobs, id=id)
    (job,) = claim(jobs, id, worker=(worker := uuid4()))
    failing: dict[str, Any] = {"error": {"code": "x", "message": "y"}, "rows_failed": 1}
    jobs.settle([outcome(job, move, **(failing if move is Move.FAIL else {}))], worker=worker)
    with database.transaction() as cursor:
        cursor.execute("UPDATE jobs SET finished_at = now() - %s WHERE id = %s", (days(days_ago), id))
    return id


def days(count: float) -> timedelta:
    return timedelta(days=count)


def weeks_there(database: Database) -> set[str]:
    with database.transaction() as cursor:
        cursor.execute(job_retention.PARTITIONS)
        return {name for (name,) in cursor.fetchall()}


def old_week() -> str:
    moment = past()
    return f"jobs_{moment - timedelta(days=moment.weekday()):%Y%m%d}"


def left(jobs: JobRepository, *ids: UUID) -> set[UUID]:
    return set(jobs.get_many(ids))


def test_a_week_of_which_everything_is_old_is_dropped(
    database: Database, jobs: JobRepository, retention: Retention
) -> None:
    old = [end(jobs, database, old_id(), Move.SUCCEED, days_ago=8) for _ in range(3)]
    recent = end(jobs, database, new_job().id, Move.SUCCEED, days_ago=0)
    before = weeks_there(database)
    assert retention.run_once() == 1
    assert before - weeks_there(database) == {old_week()}
    assert left(jobs, *old, recent) == {recent}


def test_a_week_that_holds_younger_jobs_loses_only_the_old_ones(
    database: Database, jobs: JobRepository, retention: Retention
) -> None:
    old = end(jobs, database, old_id(), Move.SUCCEED, days_ago=8)
    just_ended = end(jobs, database, old_id(), Move.SUCCEED, days_ago=1)
    failed = end(jobs, database, old_id(), Move.FAIL, days_ago=20)
    waiting = insert(jobs, id=old_id())
    running = insert_claimed(jobs, uuid4(), id=old_id()).id
    assert retention.run_once() == 1
    assert left(jobs, old, just_ended, failed, waiting, running) == {just_ended, failed, waiting, running}
    assert old_week() in weeks_there(database)


def test_failed_jobs_go_in_their_own_time(
    database: Database, jobs: JobRepository, retention: Retention
) -> None:
    young, old = (end(jobs, database, old_id(), Move.FAIL, days_ago=age) for age in (29, 31))
    retention.run_once()
    assert left(jobs, young, old) == {young}


def test_jobs_with_foreign_ids_go_too(database: Database, jobs: JobRepository, retention: Retention) -> None:
    old, young = (end(jobs, database, foreign_id(), Move.SUCCEED, days_ago=age) for age in (8, 1))
    retention.run_once()
    assert left(jobs, old, young) == {young}
    assert partitions.DEFAULT in weeks_there(database)


def test_more_than_a_page_goes_in_one_round(
    database: Database, jobs: JobRepository, retention: Retention
) -> None:
    count = job_retention.PAGE + 1
    jobs.insert([new_job(id=foreign_id()) for _ in range(count)])
    with database.transaction() as cursor:
        cursor.execute("UPDATE jobs SET state = 'cancelled', finished_at = now() - interval '8 days'")
    retention.run_once()
    assert jobs.find(limit=1) == []


def test_a_week_in_use_is_left_for_later(database: Database, jobs: JobRepository) -> None:
    id = end(jobs, database, old_id(), Move.SUCCEED, days_ago=8)
    keep = JobRetention(database, KEEP)
    with database.transaction() as cursor:
        cursor.execute("SELECT id FROM jobs WHERE id = %s", (id,))
        assert not keep.drop(old_week())
    assert keep.drop(old_week())


def test_a_round_that_is_cut_short_loses_nothing_and_is_done_again(
    database: Database, jobs: JobRepository, retention: Retention
) -> None:
    id = end(jobs, database, old_id(), Move.SUCCEED, days_ago=8)
    failpoints.arm("retention.locked=error@1")
    try:
        with pytest.raises(DatabaseUnavailable):
            retention.run_once()
        assert left(jobs, id) == {id}
        assert retention.run_once() == 1
    finally:
        failpoints.arm("")
    assert left(jobs, id) == set()


def test_keys_attempts_and_quarantine_go_with_their_time(
    database: Database, jobs: JobRepository, retention: Retention
) -> None:
    kept = new_job()
    jobs.insert_once(kept, key="kept", body_digest=b"x")
    jobs.insert_once(new_job(id=(gone := uuid4())), key="gone", body_digest=b"x")
    Quarantine(database).add([Misfit("infer.digits", b"old", "bad"), Misfit("infer.digits", b"new", "bad")])
    with database.transaction() as cursor:
        cursor.execute("DELETE FROM jobs WHERE id = %s", (gone,))
        cursor.execute("INSERT INTO attempts (job_id, epoch, code, message) VALUES (%s, 1, '', '')", (gone,))
        cursor.execute(
            "INSERT INTO attempts (job_id, epoch, code, message) VALUES (%s, 1, '', '')", (kept.id,)
        )
        cursor.execute("UPDATE attempts SET at = now() - interval '8 days'")
        cursor.execute("UPDATE idempotency_keys SET created_at = now() - interval '8 days'")
        cursor.execute("UPDATE quarantine SET created_at = now() - interval '31 days' WHERE raw = 'old'")
    retention.run_once()
    with database.transaction() as cursor:
        cursor.execute("SELECT key, raw, a.job_id FROM idempotency_keys, quarantine, attempts AS a")
        assert [(key, bytes(raw), id) for key, raw, id in cursor.fetchall()] == [("kept", b"new", kept.id)]


def test_one_process_at_a_time_forgets(database: Database, retention: Retention) -> None:
    other = Retention(JobRepair(database), JobRetention(database, KEEP))
    with JobRepair(database).duty(DutyLock.FORGET_JOBS) as cursor:
        assert cursor is not None
        assert other.run_once() == 0


# Objects


def test_a_sweep_that_is_cut_short_is_done_again(database: Database) -> None:
    store = InMemoryObjectStore()
    store.put(input_key(uuid4()), b"x")
    sweep = ObjectSweep(JobFactsReader(database), store, older_than_s=0.0)
    failpoints.arm("sweep.found=error@1")
    try:
        with pytest.raises(DatabaseUnavailable):
            sweep.run()
        assert sweep.run() == 1
    finally:
        failpoints.arm("")


def test_only_old_objects_that_no_row_names_are_swept(database: Database, jobs: JobRepository) -> None:
    store, worker = InMemoryObjectStore(), uuid4()
    running = insert_claimed(jobs, worker)
    done = insert_claimed(jobs, worker, input=None, input_key=input_key(uuid4()))
    named, late = output_key(done.id, done.epoch), output_key(done.id, 0)
    jobs.settle([outcome(done, output=Blob(None, named))], worker=worker)
    under_way, orphan = output_key(running.id, running.epoch), input_key(uuid4())
    foreign = "inputs/20260101/readme.txt"
    for key in (named, late, under_way, orphan, foreign):
        store.put(key, b"x")
    repair, reader = JobRepair(database), JobFactsReader(database)
    assert Sweep(repair, ObjectSweep(reader, store)).run_once() == 0
    assert Sweep(repair, ObjectSweep(reader, store, older_than_s=0.0)).run_once() == 2
    assert {info.key for info in store.list("")} == {named, under_way, foreign}
