"""A job that is stored, claimed or settled alone becomes what it becomes beside another."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID, uuid4

import psycopg2
import pytest

from shunter.storage import hub_statements
from shunter.storage.database import Database, fetch_all
from shunter.storage.job import Job, Move, Priority
from shunter.storage.job_insertion import INSERTED_BYTES
from shunter.storage.job_repository import JobRepository
from shunter.storage.outcome import Outcome, RowFailure
from shunter.storage.results import Blob
from tests.stored_jobs import SERVED, claim, insert, insert_claimed, new_job, outcome

ENVELOPE = uuid4()

BACKLOG = 2000
"""More jobs than a planner that knew of them would ever read for one."""

STORED: list[dict[str, Any]] = [
    {},
    {"deadline_s": 60.0, "priority": Priority.INTERACTIVE},
    {"metadata": {"quote": "'\"\\", "deep": [1, None, "é"]}, "tenant": "it's"},
    {"input": bytes(range(256)), "redriven_from": uuid4()},
    {"input": b"x" * (INSERTED_BYTES + 1)},
    {"input": None, "input_key": "in/1"},
]

ENDINGS: list[tuple[Move, dict[str, Any]]] = [
    (Move.SUCCEED, {"forward_age_s": 0.5}),
    (Move.SUCCEED, {"output": Blob(None, "out/1"), "rows_failed": 1, "rows_succeeded": 2}),
    (Move.SUCCEED, {"output": Blob(bytes(range(256)), None), "failures": (RowFailure(1, "bad", "it's \\"),)}),
    (
        Move.RETRY,
        {"retry_in_s": 5.0, "counts_attempt": True, "error": {"code": "transient", "message": "no"}},
    ),
    (Move.RETURN, {}),
    (Move.FAIL, {"rows_failed": 3, "error": {"code": "bad", "message": "'\"\\ é"}}),
    (Move.EXPIRE, {"error": {"code": "expired", "message": "late"}}),
]


@pytest.fixture
def jobs(database: Database) -> JobRepository:
    return JobRepository(database)


@pytest.mark.parametrize("changes", STORED)
def test_a_job_is_stored_alone_as_beside_another(
    database: Database, jobs: JobRepository, changes: dict[str, Any]
) -> None:
    alone, beside = new_job(**changes), new_job(**changes)
    enqueued_at = jobs.insert([alone])
    jobs.insert([beside, new_job()])
    assert row_of(database, alone.id) == row_of(database, beside.id)
    first, second = (jobs.get(job.id, tenant=job.tenant) for job in (alone, beside))
    assert first.enqueued_at == enqueued_at
    assert deadline_in_s(first) == deadline_in_s(second) == changes.get("deadline_s")


def test_a_job_that_postgres_refuses_raises_the_same_alone_as_beside_another(jobs: JobRepository) -> None:
    refused = {"rows": 2**31 - 1, "metadata": {"nul": "\x00"}}
    for bunch in ([new_job(**refused)], [new_job(**refused), new_job()]):
        with pytest.raises(psycopg2.DataError):
            jobs.insert(bunch)


@pytest.mark.parametrize(("move", "changes"), ENDINGS)
def test_an_outcome_is_written_alone_as_beside_another(
    database: Database, jobs: JobRepository, move: Move, changes: dict[str, Any]
) -> None:
    worker = uuid4()
    alone, beside, other = claim(jobs, *[insert(jobs, rows=3) for _ in range(3)], worker=worker)
    assert jobs.settle([outcome(alone, move, **changes)], worker=worker) == {alone.id}
    pair = [outcome(beside, move, **changes), outcome(other)]
    assert jobs.settle(pair, worker=worker) == {beside.id, other.id}
    assert row_of(database, alone.id) == row_of(database, beside.id)


def test_an_outcome_of_another_worker_or_epoch_is_refused_alone_as_beside_another(
    database: Database, jobs: JobRepository
) -> None:
    worker = uuid4()
    held = insert_claimed(jobs, worker)
    late = Outcome(id=held.id, epoch=held.epoch + 1, move=Move.RETURN)
    before = row_of(database, held.id)
    for others in ([], [outcome(insert_claimed(jobs, uuid4()))]):
        assert jobs.settle([outcome(held), *others], worker=uuid4()) == set()
        assert jobs.settle([late, *others], worker=worker) == set()
    assert row_of(database, held.id) == before


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"deadline_s": 60.0, "priority": Priority.BULK, "input": b"\\x00"},
        {"deadline_s": 60.0, "input": None, "input_key": "in/é"},
        {"input": b"", "rows": 2**31 - 1},
    ],
)
def test_a_job_is_claimed_alone_as_beside_another(
    database: Database, jobs: JobRepository, changes: dict[str, Any]
) -> None:
    alone, beside, other = insert(jobs, **changes), insert(jobs, **changes), insert(jobs)
    worker = uuid4()
    (first,) = jobs.claim({alone: ENVELOPE}, worker=worker, served=SERVED)
    pair = jobs.claim({beside: ENVELOPE, other: ENVELOPE}, worker=worker, served=SERVED)
    (second,) = (job for job in pair if job.id == beside)
    assert first._replace(id=beside, deadline_in_s=None, queued_s=0) == second._replace(
        deadline_in_s=None, queued_s=0
    )
    assert (first.deadline_in_s is None) == (second.deadline_in_s is None)
    assert row_of(database, alone) == row_of(database, beside)


def test_what_must_not_be_claimed_is_not_claimed_alone_nor_beside_another(
    database: Database, jobs: JobRepository
) -> None:
    worker = uuid4()
    late, not_due, running = insert(jobs, deadline_s=0.0), insert_claimed(jobs, worker), insert(jobs)
    later = outcome(not_due, Move.RETRY, retry_in_s=60.0, error={"code": "transient", "message": "no"})
    assert jobs.settle([later], worker=worker) == {not_due.id}
    assert claim(jobs, running, worker=worker)
    refused = [late, not_due.id, running, insert(jobs, version=2), insert(jobs, model="other"), uuid4()]
    before = [row_of(database, id) for id in refused[:-1]]
    for id in refused:
        assert claim(jobs, id, worker=worker) == []
    assert claim(jobs, *refused, worker=worker) == []
    assert [row_of(database, id) for id in refused[:-1]] == before


@pytest.mark.parametrize("count", [1, 2])
def test_jobs_are_found_by_their_ids_whatever_waits_or_runs_beside_them(
    database: Database, jobs: JobRepository, count: int
) -> None:
    worker = uuid4()
    jobs.insert([new_job() for _ in range(BACKLOG)])
    queued, running = insert_many(jobs, count), insert_many(jobs, count)
    claimed = jobs.claim(dict.fromkeys(running, ENVELOPE), worker=worker, served=SERVED)
    for statement, parameters in (
        hub_statements.claim(dict.fromkeys(queued, ENVELOPE), worker=worker, served=SERVED),
        hub_statements.settle([outcome(job) for job in claimed], worker=worker),
    ):
        with database.transaction() as cursor:
            *settings, told = statement.rpartition(";")
            cursor.execute("".join(settings) + "EXPLAIN " + told, parameters)
            plan = "\n".join(line for (line,) in cursor.fetchall())
        assert re.findall(r"Scan.* (?:using|on) (jobs\w*_idx)", plan) == [], plan


def insert_many(jobs: JobRepository, count: int) -> list[UUID]:
    return [insert(jobs) for _ in range(count)]


def deadline_in_s(job: Job) -> float | None:
    return None if job.deadline_at is None else (job.deadline_at - job.enqueued_at).total_seconds()


def row_of(database: Database, id: UUID) -> dict[str, Any]:
    """All that is stored of a job but its id; of moments, whether they are there."""
    with database.transaction() as cursor:
        cursor.execute("SELECT * FROM jobs WHERE id = %s", (id,))
        (row,) = fetch_all(cursor)
    del row["id"]
    blobs = {"input", "output"} & {name for name in row if row[name] is not None}
    row |= {name: bytes(row[name]) for name in blobs}
    return {
        name: value is None if name.endswith(("_at", "not_before")) else value for name, value in row.items()
    }
