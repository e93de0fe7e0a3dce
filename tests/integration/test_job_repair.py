"""What the housekeeping duties do to jobs."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest

from shunter.storage.database import Database
from shunter.storage.ids import new_ids
from shunter.storage.job import Job, JobState, Move, Priority
from shunter.storage.job_repair import JobRepair, Requeued
from shunter.storage.job_repository import JobRepository
from shunter.storage.model_registry import ModelRegistry
from shunter.storage.queue_depth import depths
from shunter.storage.worker_registry import WorkerRegistry
from tests.fake_worker import model_version
from tests.stored_jobs import (
    SERVED,
    age_jobs,
    age_workers,
    claim,
    insert,
    insert_claimed,
    new_job,
    new_worker,
    outcome,
)

LOCK = 7


@pytest.fixture
def jobs(database: Database) -> JobRepository:
    return JobRepository(database)


@pytest.fixture
def repair(database: Database) -> JobRepair:
    return JobRepair(database)


@pytest.fixture
def registry(database: Database) -> WorkerRegistry:
    return WorkerRegistry(database)


# One duty at a time


def test_a_duty_is_done_by_one_connection_at_a_time(repair: JobRepair, database_url: str) -> None:
    elsewhere = Database(database_url)
    with repair.duty(LOCK) as first, JobRepair(elsewhere).duty(LOCK) as second:
        assert first is not None
        assert second is None
    with JobRepair(elsewhere).duty(LOCK) as third:
        assert third is not None
    elsewhere.close()


def test_different_duties_are_done_at_once(repair: JobRepair) -> None:
    with repair.duty(LOCK) as first, repair.duty(LOCK + 1) as second:
        assert first is not None
        assert second is not None


def test_a_duty_that_fails_changes_nothing_and_frees_its_lock(repair: JobRepair, jobs: JobRepository) -> None:
    id = insert(jobs, deadline_s=-1.0)
    with pytest.raises(ZeroDivisionError):
        expire_and_fail(repair)
    assert jobs.get(id).state is JobState.QUEUED
    with repair.duty(LOCK) as cursor:
        assert cursor is not None


def expire_and_fail(repair: JobRepair) -> None:
    with repair.duty(LOCK) as cursor:
        assert cursor is not None
        assert repair.expire_overdue(cursor) == 1
        raise ZeroDivisionError


def test_a_duty_leaves_no_timeout_behind(repair: JobRepair, database: Database) -> None:
    with repair.duty(LOCK) as cursor:
        assert cursor is not None
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("30s",)
    with database.transaction() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("0",)


# Lost envelopes, and jobs that are due again


def test_lost_jobs_are_enqueued_now(database: Database, repair: JobRepair, jobs: JobRepository) -> None:
    id = insert(jobs, rows=3)
    age_jobs(database, 60)
    before = jobs.get(id)
    (lost,) = requeue_lost(repair, before.enqueued_at + timedelta(seconds=1))
    after = jobs.get(id)
    assert (lost.due.id, lost.due.model, lost.due.version, lost.due.rows) == (id, "digits", 1, 3)
    assert lost.enqueued_at == after.enqueued_at.timestamp() > before.enqueued_at.timestamp()
    assert (after.state, after.epoch, after.created_at) == (JobState.QUEUED, 0, before.created_at)


def test_only_older_queued_jobs_of_the_line_are_lost(repair: JobRepair, jobs: JobRepository) -> None:
    insert_claimed(jobs, uuid4())
    insert(jobs, model="other")
    insert(jobs, priority=Priority.BULK)
    old, young = insert(jobs), insert(jobs)
    lost = requeue_lost(repair, jobs.get(young).enqueued_at)
    assert [requeued.due.id for requeued in lost] == [old]


def test_a_job_that_waits_for_its_retry_is_not_lost(
    database: Database, repair: JobRepair, jobs: JobRepository
) -> None:
    job = retried(jobs, retry_in_s=60.0)
    age_jobs(database, 30)
    later = job.enqueued_at + timedelta(hours=1)
    assert requeue_lost(repair, later) == []
    age_jobs(database, 31)
    assert [requeued.due.id for requeued in requeue_lost(repair, later)] == [job.id]


def test_lost_jobs_come_oldest_first_in_pages(repair: JobRepair, jobs: JobRepository) -> None:
    ids = [insert(jobs) for _ in range(5)]
    end = jobs.get(ids[-1]).enqueued_at + timedelta(microseconds=1)
    pages = [{lost.due.id for lost in requeue_lost(repair, end, limit=2)} for _ in range(4)]
    assert pages == [set(ids[:2]), set(ids[2:4]), set(ids[4:]), set()]


def test_a_lost_job_in_other_hands_is_passed_over(
    database: Database, repair: JobRepair, jobs: JobRepository
) -> None:
    held, free = insert(jobs), insert(jobs)
    end = jobs.get(free).enqueued_at + timedelta(seconds=1)
    with database.transaction() as cursor:
        cursor.execute("SELECT 1 FROM jobs WHERE id = %s FOR UPDATE", (held,))
        assert [lost.due.id for lost in requeue_lost(repair, end)] == [free]


def test_a_job_whose_wait_is_over_is_woken_once(
    database: Database, repair: JobRepair, jobs: JobRepository
) -> None:
    insert(jobs)
    job = retried(jobs, retry_in_s=60.0)
    assert wake(repair) == []
    age_jobs(database, 61)
    (woken,) = wake(repair)
    after = jobs.get(job.id)
    assert (woken.due.id, woken.enqueued_at) == (job.id, after.enqueued_at.timestamp())
    assert (after.not_before, after.attempts) == (None, 1)
    assert wake(repair) == []


def test_the_oldest_of_every_line_is_known(
    database: Database, repair: JobRepair, jobs: JobRepository
) -> None:
    ModelRegistry(database).register([model_version("digits", 1), model_version("idle", 1)])
    oldest = jobs.get(insert(jobs))
    bulk = jobs.get(insert(jobs, priority=Priority.BULK))
    insert(jobs)
    insert_claimed(jobs, uuid4(), priority=Priority.INTERACTIVE)
    lines, now = repair.oldest_queued()
    assert lines == {
        ("digits", Priority.STANDARD): oldest.enqueued_at,
        ("digits", Priority.BULK): bulk.enqueued_at,
    }
    assert now > bulk.enqueued_at


def test_depths_count_the_queued_jobs_of_every_line(database: Database, jobs: JobRepository) -> None:
    insert(jobs)
    insert(jobs, version=2)
    insert(jobs, model="other", priority=Priority.BULK)
    insert_claimed(jobs, uuid4(), priority=Priority.INTERACTIVE)
    age_jobs(database, 60)
    found = depths(database)
    assert [(depth.model, depth.priority, depth.jobs) for depth in found] == [
        ("digits", Priority.STANDARD, 2),
        ("other", Priority.BULK, 1),
    ]
    assert all(60 <= depth.oldest_s < 120 for depth in found)


# Dead workers


def test_orphans_are_jobs_of_ended_and_of_unknown_workers(
    repair: JobRepair, registry: WorkerRegistry, jobs: JobRepository
) -> None:
    ended, missing, live, idle = (uuid4() for _ in range(4))
    for incarnation in (ended, live, idle):
        registry.register(new_worker(incarnation=incarnation))
    for worker in (ended, ended, missing, live):
        insert_claimed(jobs, worker)
    registry.end([ended, idle])
    assert orphaned_workers(repair) == {ended, missing}


def test_settled_jobs_of_an_ended_worker_are_no_orphans(repair: JobRepair, jobs: JobRepository) -> None:
    worker = uuid4()
    jobs.settle([outcome(insert_claimed(jobs, worker))], worker=worker)
    assert orphaned_workers(repair) == set()


def test_a_rescued_job_is_queued_again_and_nothing_is_counted(repair: JobRepair, jobs: JobRepository) -> None:
    dead, envelope, id = uuid4(), uuid4(), insert(jobs, rows=5, priority=Priority.BULK)
    jobs.claim({id: envelope}, worker=dead, served=SERVED)
    (rescued,) = rescue(repair, dead)
    job = jobs.get(id)
    assert (rescued.due.id, rescued.due.rows, rescued.due.priority) == (id, 5, Priority.BULK)
    assert rescued.envelope == envelope
    assert rescued.enqueued_at == job.enqueued_at.timestamp()
    assert (job.state, job.worker, job.started_at, job.epoch) == (JobState.QUEUED, None, None, 1)
    assert (job.attempts, job.deaths) == (0, 0)


def test_only_running_jobs_of_the_dead_are_rescued(repair: JobRepair, jobs: JobRepository) -> None:
    dead, live = uuid4(), uuid4()
    stranded, safe = insert_claimed(jobs, dead), insert_claimed(jobs, live)
    done, cancelled = insert_claimed(jobs, dead), insert_claimed(jobs, dead)
    jobs.settle([outcome(done)], worker=dead)
    jobs.cancel(cancelled.id)
    assert [rescued.due.id for rescued in rescue(repair, dead)] == [stranded.id]
    assert jobs.get(safe.id).state is JobState.RUNNING


def test_the_dead_cannot_settle_what_was_rescued(repair: JobRepair, jobs: JobRepository) -> None:
    dead, heir = uuid4(), uuid4()
    stale = insert_claimed(jobs, dead)
    rescue(repair, dead)
    assert jobs.settle([outcome(stale)], worker=dead) == set()
    (fresh,) = claim(jobs, stale.id, worker=heir)
    assert fresh.epoch == 2
    assert jobs.settle([outcome(stale)], worker=dead) == set()
    assert jobs.settle([outcome(fresh)], worker=heir) == {stale.id}


def test_rescue_goes_page_by_page(repair: JobRepair, jobs: JobRepository) -> None:
    dead = uuid4()
    claim(jobs, *[insert(jobs) for _ in range(5)], worker=dead)
    assert [len(rescue(repair, dead, limit=2)) for _ in range(4)] == [2, 2, 1, 0]


# Deadlines


def test_queued_jobs_past_their_deadline_expire(
    database: Database, repair: JobRepair, jobs: JobRepository
) -> None:
    late, soon, endless = insert(jobs, deadline_s=30.0), insert(jobs, deadline_s=90.0), insert(jobs)
    age_jobs(database, 60)
    assert expire_overdue(repair) == 1
    job = jobs.get(late)
    assert (job.state, job.error and job.error["code"]) == (JobState.EXPIRED, "expired")
    assert job.finished_at is not None
    assert set(jobs.states([soon, endless]).values()) == {JobState.QUEUED}
    assert expire_overdue(repair) == 0


def test_a_running_job_past_its_deadline_is_left_to_its_hub(
    database: Database, repair: JobRepair, jobs: JobRepository
) -> None:
    job = insert_claimed(jobs, uuid4(), deadline_s=30.0)
    age_jobs(database, 60)
    assert expire_overdue(repair) == 0
    assert jobs.get(job.id).state is JobState.RUNNING


def test_a_job_that_waits_for_its_retry_expires_too(
    database: Database, repair: JobRepair, jobs: JobRepository
) -> None:
    retried(jobs, retry_in_s=300.0, deadline_s=30.0)
    age_jobs(database, 60)
    assert expire_overdue(repair) == 1


def test_jobs_expire_page_by_page(repair: JobRepair, jobs: JobRepository) -> None:
    jobs.insert([new_job(id=id, deadline_s=-1.0) for id in new_ids(5)])
    assert [expire_overdue(repair, limit=2) for _ in range(4)] == [2, 2, 1, 0]


# Versions that nobody serves


def test_an_old_job_that_nobody_ever_served_fails(
    database: Database, repair: JobRepair, jobs: JobRepository
) -> None:
    id = insert(jobs, rows=3)
    age_jobs(database, 601)
    assert fail_unserved(repair) == 1
    job = jobs.get(id)
    assert (job.state, job.rows_failed) == (JobState.FAILED, 3)
    assert job.error is not None
    assert job.error["code"] == "version_unavailable"
    failures = jobs.results([id])[id].row_failures()
    assert [(failure.index, failure.code) for failure in failures] == [
        (index, "version_unavailable") for index in range(3)
    ]


def test_a_young_job_waits_for_a_worker(database: Database, repair: JobRepair, jobs: JobRepository) -> None:
    insert(jobs)
    age_jobs(database, 590)
    assert fail_unserved(repair) == 0


def test_a_running_job_of_an_unserved_version_goes_on(
    database: Database, repair: JobRepair, jobs: JobRepository
) -> None:
    insert_claimed(jobs, uuid4())
    age_jobs(database, 601)
    assert fail_unserved(repair) == 0


@pytest.mark.parametrize(("age_s", "ended", "failed"), [(0, False, 0), (590, True, 0), (601, True, 1)])
def test_a_job_fails_only_when_its_version_has_not_been_served_for_long(
    database: Database, age_s: float, ended: bool, failed: int
) -> None:
    worker, registry = new_worker(), WorkerRegistry(database)
    registry.register(worker)
    if ended:
        registry.end([worker.incarnation])
    insert(JobRepository(database))
    age_jobs(database, 3600)
    age_workers(database, age_s)
    assert fail_unserved(JobRepair(database)) == failed


def test_a_worker_that_went_silent_serves_no_more(
    database: Database, repair: JobRepair, registry: WorkerRegistry, jobs: JobRepository
) -> None:
    registry.register(new_worker())
    insert(jobs)
    age_jobs(database, 601)
    age_workers(database, 601)
    assert fail_unserved(repair) == 1


def test_another_version_does_not_serve(
    database: Database, repair: JobRepair, registry: WorkerRegistry, jobs: JobRepository
) -> None:
    registry.register(new_worker(version=2))
    served, unserved = insert(jobs, version=2), insert(jobs, version=1)
    age_jobs(database, 601)
    assert fail_unserved(repair) == 1
    assert jobs.states([served, unserved]) == {served: JobState.QUEUED, unserved: JobState.FAILED}


def retried(jobs: JobRepository, *, retry_in_s: float, deadline_s: float | None = None) -> Job:
    """A job that waits for its second run."""
    worker = uuid4()
    job = insert_claimed(jobs, worker, deadline_s=deadline_s)
    again = outcome(job, Move.RETRY, retry_in_s=retry_in_s, counts_attempt=True)
    jobs.settle([again], worker=worker)
    return jobs.get(job.id)


def requeue_lost(repair: JobRepair, before: datetime, *, limit: int = 100) -> list[Requeued]:
    with repair.duty(LOCK) as cursor:
        assert cursor is not None
        return repair.requeue_lost(cursor, "digits", Priority.STANDARD, before=before, limit=limit)


def wake(repair: JobRepair) -> list[Requeued]:
    with repair.duty(LOCK) as cursor:
        assert cursor is not None
        return repair.wake(cursor)


def orphaned_workers(repair: JobRepair) -> set[UUID]:
    with repair.duty(LOCK) as cursor:
        assert cursor is not None
        return set(repair.orphaned_workers(cursor))


def rescue(repair: JobRepair, *workers: UUID, limit: int = 100) -> list[Requeued]:
    with repair.duty(LOCK) as cursor:
        assert cursor is not None
        return repair.rescue(cursor, workers, limit=limit)


def expire_overdue(repair: JobRepair, *, limit: int = 100) -> int:
    with repair.duty(LOCK) as cursor:
        assert cursor is not None
        return repair.expire_overdue(cursor, limit=limit)


def fail_unserved(repair: JobRepair) -> int:
    with repair.duty(LOCK) as cursor:
        assert cursor is not None
        cursor.execute(
            "INSERT INTO models (name, version, digest, config) "
            "SELECT DISTINCT model, version, '', '{}'::jsonb FROM jobs ON CONFLICT DO NOTHING"
        )
        return repair.fail_unserved(cursor)
