"""Many connections at the same jobs: each job ends up in one pair of hands, and in one state."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest

from shunter.storage import hub_statements
from shunter.storage.database import Database
from shunter.storage.errors import AlreadyFinished
from shunter.storage.ids import new_ids
from shunter.storage.job import Claim, JobState, Move
from shunter.storage.job_repair import JobRepair
from shunter.storage.job_repository import JobRepository
from tests.jobs import claimed_job
from tests.stored_jobs import SERVED, new_job, outcome
from tests.waiting import wait_until

THREADS = 8


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url, pool_size=THREADS)
    yield database
    database.close()


@pytest.fixture
def jobs(database: Database) -> JobRepository:
    return JobRepository(database)


def insert_many(jobs: JobRepository, count: int) -> list[UUID]:
    ids = new_ids(count)
    jobs.insert([new_job(id=id) for id in ids])
    return ids


def shuffled(ids: list[UUID]) -> list[UUID]:
    return random.sample(ids, len(ids))


def test_each_job_is_claimed_by_one_of_many_hubs(jobs: JobRepository) -> None:
    ids, start = insert_many(jobs, 500), threading.Barrier(THREADS, timeout=30)

    def claim_all(worker: UUID) -> list[UUID]:
        start.wait()
        order, mine = shuffled(ids), []
        for first in range(0, len(order), 50):
            hints = dict.fromkeys(order[first : first + 50], worker)
            mine += [job.id for job in jobs.claim(hints, worker=worker, served=SERVED)]
        return mine

    workers = [uuid4() for _ in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as threads:
        taken = list(threads.map(claim_all, workers))
    assert sorted(id for mine in taken for id in mine) == ids
    for worker, mine in zip(workers, taken, strict=True):
        assert jobs.held(worker) == {Claim(id, 1) for id in mine}


def test_the_same_bunch_claimed_at_once_goes_to_one_hub(jobs: JobRepository) -> None:
    ids, start = insert_many(jobs, 500), threading.Barrier(THREADS, timeout=30)

    def claim_all(worker: UUID) -> set[UUID]:
        start.wait()
        return {job.id for job in jobs.claim(dict.fromkeys(ids, worker), worker=worker, served=SERVED)}

    with ThreadPoolExecutor(THREADS) as threads:
        taken = list(threads.map(claim_all, [uuid4() for _ in range(THREADS)]))
    assert sorted(len(mine) for mine in taken) == [0] * (THREADS - 1) + [500]


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        ("state = 'cancelled', finished_at = now()", []),
        # What another hub gives back meanwhile is due: this hint is the one that it has.
        ("epoch = epoch + 1", [2]),
    ],
)
def test_a_claim_judges_a_job_as_it_is_once_it_is_free(
    database: Database, jobs: JobRepository, change: str, taken: list[int]
) -> None:
    (id,) = insert_many(jobs, 1)
    worker = uuid4()
    with ThreadPoolExecutor(1) as threads:
        with database.transaction() as cursor:
            cursor.execute(f"UPDATE jobs SET {change} WHERE id = %s", (id,))
            claim = threads.submit(jobs.claim, {id: worker}, worker=worker, served=SERVED)
            wait_until(lambda: somebody_waits_for_a_lock(database))
        assert [job.epoch for job in claim.result(timeout=30)] == taken


def somebody_waits_for_a_lock(database: Database) -> bool:
    with database.statement() as cursor:
        cursor.execute(
            "SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) "
            "WHERE NOT granted AND datname = current_database()"
        )
        return cursor.fetchone() is not None


def test_a_settle_and_a_cancel_of_one_job_agree_on_its_end(jobs: JobRepository) -> None:
    worker, ids = uuid4(), insert_many(jobs, 200)
    claimed = jobs.claim(dict.fromkeys(ids, worker), worker=worker, served=SERVED)
    start = threading.Barrier(2, timeout=30)

    def settle_all() -> set[UUID]:
        start.wait()
        pages = [claimed[first : first + 10] for first in range(0, len(claimed), 10)]
        written = [jobs.settle([outcome(job) for job in page], worker=worker) for page in pages]
        return set().union(*written)

    def cancel_all() -> set[UUID]:
        start.wait()
        return {id for id in shuffled(ids) if was_cancelled(jobs, id)}

    with ThreadPoolExecutor(2) as threads:
        settling, cancelling = threads.submit(settle_all), threads.submit(cancel_all)
    assert settling.result() | cancelling.result() == set(ids)
    assert settling.result() & cancelling.result() == set()
    states = jobs.states(ids)
    assert {id for id in ids if states[id] is JobState.SUCCEEDED} == settling.result()
    assert {id for id in ids if states[id] is JobState.CANCELLED} == cancelling.result()


def was_cancelled(jobs: JobRepository, id: UUID) -> bool:
    try:
        return jobs.cancel(id).state is JobState.CANCELLED
    except AlreadyFinished:
        return False


def test_settles_deaths_and_rescues_of_the_same_jobs_never_deadlock(
    database: Database, jobs: JobRepository
) -> None:
    ids, start = insert_many(jobs, 300), threading.Barrier(4, timeout=30)
    worker, repair = uuid4(), JobRepair(database)

    def claim_again() -> None:
        jobs.claim(dict.fromkeys(shuffled(ids), worker), worker=worker, served=SERVED)

    def put_back() -> None:
        held = [claimed_job(id=claim.id, epoch=claim.epoch) for claim in jobs.held(worker)]
        jobs.settle([outcome(job, Move.RETURN) for job in held], worker=worker)

    def charge() -> None:
        jobs.count_deaths(jobs.held(worker), worker=worker)

    def rescue() -> None:
        with repair.duty(1) as cursor:
            assert cursor is not None
            repair.rescue(cursor, [worker])

    def repeat(step: Callable[[], None]) -> None:
        start.wait()
        for _ in range(25):
            step()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(repeat, [claim_again, put_back, charge, rescue]))
    assert set(jobs.states(ids).values()) <= {JobState.QUEUED, JobState.RUNNING}


@pytest.mark.parametrize("count", [2, 300])
@pytest.mark.parametrize("settles", [False, True])
def test_bulk_statements_take_rows_in_the_order_of_their_ids(
    database: Database, jobs: JobRepository, count: int, settles: bool
) -> None:
    ids, worker = new_ids(count), uuid4()
    jobs.insert([new_job(id=id) for id in shuffled(ids)])
    hints, middle = dict.fromkeys(shuffled(ids), worker), count // 2
    if settles:
        held = jobs.claim(hints, worker=worker, served=SERVED)
        statement = hub_statements.settle([outcome(job) for job in held], worker=worker)
    else:
        statement = hub_statements.claim(hints, worker=worker, served=SERVED)

    def say() -> None:
        with database.statement() as cursor:
            cursor.execute(*statement)

    with ThreadPoolExecutor(1) as thread:
        with database.transaction() as cursor:
            cursor.execute("SELECT FROM jobs WHERE id = %s FOR UPDATE", (ids[middle],))
            said = thread.submit(say)
            wait_until(lambda: waits_for_a_lock(database))
            assert not_locked(database, ids) == set(ids[middle + 1 :])
        said.result()
    assert set(jobs.states(ids).values()) == {JobState.SUCCEEDED if settles else JobState.RUNNING}


def waits_for_a_lock(database: Database) -> bool:
    with database.statement() as cursor:
        cursor.execute(
            """SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'"""
        )
        return bool((cursor.fetchone() or (0,))[0])


def not_locked(database: Database, ids: list[UUID]) -> set[UUID]:
    with database.statement() as cursor:
        cursor.execute("SELECT id FROM jobs WHERE id = ANY(%s) FOR UPDATE SKIP LOCKED", (ids,))
        return {id for (id,) in cursor.fetchall()}
