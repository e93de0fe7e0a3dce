"""Jobs lie in the partition of their week, and statements touch only the partitions they need."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest

from shunter.storage import hub_statements, job_repository, partitions
from shunter.storage.database import Cursor, Database
from shunter.storage.ids import created_at
from shunter.storage.job_repair import JobRepair
from shunter.storage.job_repository import JobRepository
from tests.stored_jobs import SERVED, claim, insert, insert_claimed, outcome

FOREIGN = [UUID(int=0), UUID("12345678-1234-4234-8234-123456789abc"), UUID(int=2**128 - 1)]


@pytest.fixture
def jobs(database: Database) -> JobRepository:
    return JobRepository(database)


def test_a_job_lies_in_the_partition_of_its_week(database: Database, jobs: JobRepository) -> None:
    id = insert(jobs)
    assert partition_of(database, id) == f"jobs_{monday_of(created_at(id)):%Y%m%d}"


@pytest.mark.parametrize("id", FOREIGN)
def test_a_foreign_id_lies_in_the_default_partition_and_lives_like_any_other(
    database: Database, jobs: JobRepository, id: UUID
) -> None:
    job = insert_claimed(jobs, worker := uuid4(), id=id)
    assert partition_of(database, id) == "jobs_default"
    assert jobs.settle([outcome(job)], worker=worker) == {id}


def test_weeks_are_cut_at_monday_midnight(database: Database, jobs: JobRepository) -> None:
    monday = monday_of(datetime.now(UTC)) + timedelta(weeks=1)
    first = insert(jobs, id=partitions.lowest_id(monday))
    last = insert(jobs, id=UUID(int=partitions.lowest_id(monday).int - 1))
    assert partition_of(database, first) == f"jobs_{monday:%Y%m%d}"
    assert partition_of(database, last) == f"jobs_{monday - timedelta(weeks=1):%Y%m%d}"


def test_this_week_and_the_next_ones_have_a_partition_from_the_start(database: Database) -> None:
    monday = monday_of(datetime.now(UTC))
    assert {f"jobs_{monday + timedelta(weeks=week):%Y%m%d}" for week in range(3)} <= all_partitions(database)


def test_making_partitions_again_changes_nothing(database: Database) -> None:
    before = all_partitions(database)
    repair = JobRepair(database)
    for _ in range(2):
        with database.transaction() as cursor:
            repair.ensure_partitions(cursor)
    assert all_partitions(database) == before


def test_a_week_whose_jobs_lie_in_the_default_partition_keeps_them_there(
    database: Database, jobs: JobRepository
) -> None:
    future = monday_of(datetime.now(UTC)) + timedelta(weeks=10)
    early = insert(jobs, id=partitions.lowest_id(future))
    with database.transaction() as cursor:
        make_partitions(cursor, future)
    assert partition_of(database, early) == "jobs_default"
    assert jobs.get(early).id == early
    assert f"jobs_{future:%Y%m%d}" not in all_partitions(database)
    assert f"jobs_{future + timedelta(weeks=1):%Y%m%d}" in all_partitions(database)


def test_partitions_made_by_two_at_once_are_made_once(database: Database) -> None:
    before, start = all_partitions(database), threading.Barrier(2, timeout=30)

    def make(_: int) -> None:
        for turn in range(5):
            start.wait()
            with database.transaction() as cursor:
                make_partitions(cursor, datetime(2040 + turn, 1, 1, tzinfo=UTC))

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(make, range(2)))
    assert len(all_partitions(database) - before) == 15


@pytest.mark.parametrize("offset_h", [-12, 0, 14])
def test_the_weeks_do_not_depend_on_the_zone_of_the_clock(offset_h: int) -> None:
    late_sunday = datetime(2026, 11, 22, 23, 30, tzinfo=UTC)
    local = late_sunday.astimezone(timezone(timedelta(hours=offset_h)))
    assert list(partitions.statements(local)) == list(partitions.statements(late_sunday))


# Which partitions a statement reads


@pytest.mark.parametrize("count", [1, 3])
def test_a_claim_touches_only_the_partitions_of_its_jobs(
    database: Database, jobs: JobRepository, count: int
) -> None:
    hints = {insert(jobs): uuid4() for _ in range(count)}
    statement = hub_statements.claim(hints, worker=uuid4(), served=SERVED)
    assert touched(database, *bare(statement)) == {partition_of(database, id) for id in hints}


@pytest.mark.parametrize("count", [1, 3])
def test_a_settle_touches_only_the_partitions_of_its_jobs(
    database: Database, jobs: JobRepository, count: int
) -> None:
    worker = uuid4()
    claimed = claim(jobs, *[insert(jobs) for _ in range(count)], worker=worker)
    statement = hub_statements.settle([outcome(job) for job in claimed], worker=worker)
    assert touched(database, *bare(statement)) == {partition_of(database, claimed[0].id)}


def test_counting_deaths_touches_only_the_partitions_of_its_jobs(
    database: Database, jobs: JobRepository
) -> None:
    job = insert_claimed(jobs, worker := uuid4())
    parameters = {"ids": [job.id], "claims": ((job.id, job.epoch),), "worker": worker}
    assert touched(database, job_repository.COUNT_DEATHS, parameters) == {partition_of(database, job.id)}


def test_a_bunch_over_two_weeks_and_a_foreign_id_touches_three_partitions(
    database: Database, jobs: JobRepository
) -> None:
    next_week = partitions.lowest_id(monday_of(datetime.now(UTC)) + timedelta(weeks=1))
    ids = [insert(jobs), insert(jobs, id=next_week), insert(jobs, id=FOREIGN[0])]
    statement = hub_statements.claim(dict(zip(ids, ids, strict=True)), worker=uuid4(), served=SERVED)
    assert touched(database, *bare(statement)) == {partition_of(database, id) for id in ids}


def bare(statement: hub_statements.Statement) -> hub_statements.Statement:
    """Without the settings before it, which cannot be explained."""
    sql, parameters = statement
    return sql.rpartition(";")[2], parameters


def monday_of(moment: datetime) -> datetime:
    return datetime(moment.year, moment.month, moment.day, tzinfo=UTC) - timedelta(days=moment.weekday())


def make_partitions(cursor: Cursor, moment: datetime) -> None:
    for statement in partitions.statements(moment):
        cursor.execute(statement)


def partition_of(database: Database, id: UUID) -> str:
    with database.transaction() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM jobs WHERE id = %s", (id,))
        (row,) = cursor.fetchall()
    return str(row[0])


def all_partitions(database: Database) -> set[str]:
    with database.transaction() as cursor:
        cursor.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'jobs'::regclass")
        return {name for (name,) in cursor.fetchall()}


def touched(database: Database, statement: str, parameters: dict[str, Any]) -> set[str]:
    """The partitions that a statement's plan reads or writes."""
    with database.transaction() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
        ((plans,),) = cursor.fetchall()
    relations = (relation for plan in plans for relation in relations_of(plan["Plan"]))
    # A partitioned table's own name stands for its partitions, which are named below it.
    return {relation for relation in relations if relation.startswith("jobs_")}


def relations_of(node: dict[str, Any]) -> Iterator[str]:
    if "Relation Name" in node:
        yield node["Relation Name"]
    below: Sequence[dict[str, Any]] = node.get("Plans", ())
    for child in below:
        yield from relations_of(child)
