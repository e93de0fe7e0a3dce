"""Plain Celery messages become jobs: once each, as running jobs of the worker that took them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest

from shunter.storage.database import Database
from shunter.storage.envelope import list_key, queue_name, read_message
from shunter.storage.job import Job, JobState, Move, Priority
from shunter.storage.job_adoption import JobAdoption
from shunter.storage.job_repair import JobRepair
from shunter.storage.job_repository import JobRepository
from shunter.storage.memory_ceilings import MemoryCeilings
from shunter.storage.model_config import ModelConfig
from shunter.storage.model_registry import ModelRegistry, ModelVersion
from shunter.storage.object_store import ObjectStore, open_object_store
from shunter.storage.payload import decode_rows
from shunter.storage.quarantine import Misfit, Quarantine
from shunter.storage.results import INLINE_LIMIT_BYTES, Blob, load_block
from shunter.storage.settings import MAX_JOB_BYTES, MAX_JOB_ROWS
from shunter.storage.signature import Signature, TensorSpec
from shunter.storage.submission import Submission, job_id, read_submission
from shunter.workers.adopter import Adopted, Adopter
from shunter.workers.claimer import Claimed, Claimer
from shunter.workers.intake import read
from shunter.workers.lists import Bunch
from tests.celery_messages import submission_message
from tests.fake_worker import model_version
from tests.stored_jobs import claim, outcome
from tests.waiting import wait_until

SERVED = [("digits", 1), ("pixels", 1)]
QUEUE = list_key(queue_name("digits"), Priority.STANDARD)
LARGE = "x" * (INLINE_LIMIT_BYTES + 1)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url)) as database:
        pixels = ModelConfig(signature=Signature(inputs={"image": TensorSpec("float32", (2,))}))
        ModelRegistry(database).register(
            [
                model_version("digits", 1),
                ModelVersion("pixels", 1, Path("/nowhere"), pixels, "pixels-1"),
            ]
        )
        yield database


@pytest.fixture
def jobs(database: Database) -> JobRepository:
    return JobRepository(database)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_object_store(f"file://{tmp_path}/objects")


@pytest.fixture
def adopter(database: Database, store: ObjectStore) -> Adopter:
    return Adopter(JobAdoption(database), ModelRegistry(database), store)


@pytest.fixture
def worker() -> UUID:
    return uuid4()


def sent(rows: Any, *, model: str = "digits", key: str = "", **changes: Any) -> Submission:
    raw = submission_message(model, rows, **changes)
    return read_submission(read_message(raw), key or queue_name(model), raw)


def adopt(adopter: Adopter, *submissions: Submission, worker: UUID) -> Adopted:
    return adopter.adopt(submissions, worker=worker, served=SERVED)


def reasons(adopted: Adopted) -> list[str]:
    return [refusal.reason for refusal in adopted.refused]


def stored(jobs: JobRepository, submission: Submission) -> Job:
    return jobs.get(submission.id)


# New ones


def test_a_bunch_begins_as_running_jobs_of_the_first_epoch(
    adopter: Adopter, jobs: JobRepository, worker: UUID
) -> None:
    bunch = [sent([n, n + 1], metadata={"n": n}) for n in range(300)]
    adopted = adopt(adopter, *bunch, worker=worker)
    assert {job.id for job in adopted.jobs} == {submission.id for submission in bunch}
    assert {(job.epoch, job.version, job.rows) for job in adopted.jobs} == {(1, 1, 2)}
    assert (adopted.accepted, adopted.known, adopted.refused) == (tuple(bunch), frozenset(), ())
    rows = jobs.get_many([submission.id for submission in bunch])
    assert {(row.state, row.worker, row.epoch) for row in rows.values()} == {(JobState.RUNNING, worker, 1)}
    assert rows[bunch[7].id].metadata == {"n": 7}
    assert {claim.epoch for claim in jobs.held(worker)} == {1}


def test_an_adopted_job_is_settled_like_any_other(
    adopter: Adopter, jobs: JobRepository, worker: UUID
) -> None:
    (job,) = adopt(adopter, sent([1]), worker=worker).jobs
    assert job.input is not None
    assert decode_rows(job.input) == [1]
    assert jobs.settle([outcome(job)], worker=worker) == {job.id}


def test_the_list_gives_the_priority(adopter: Adopter, jobs: JobRepository, worker: UUID) -> None:
    bulk = sent([1], key=list_key(queue_name("digits"), Priority.BULK))
    adopt(adopter, bulk, worker=worker)
    assert stored(jobs, bulk).priority is Priority.BULK


def test_a_task_id_that_is_no_uuid_is_one_job(adopter: Adopter, jobs: JobRepository, worker: UUID) -> None:
    submission = sent([1], task_id="nightly-7")
    adopt(adopter, submission, worker=worker)
    assert adopt(adopter, submission, worker=worker).known == {job_id("nightly-7")}
    assert jobs.get(job_id("nightly-7")).state is JobState.RUNNING


@pytest.mark.parametrize(
    "id", ["ffffffff-ffff-7fff-bfff-ffffffffffff", "00000000-0000-0000-0000-000000000000"]
)
def test_any_uuid_is_an_id(adopter: Adopter, worker: UUID, store: ObjectStore, id: str) -> None:
    (job,) = adopt(adopter, sent([LARGE], task_id=id), worker=worker).jobs
    assert job.id == UUID(id)
    assert decode_rows(load_block(store, Blob(job.input, job.input_key))) == [LARGE]


def test_a_version_that_the_worker_does_not_serve_waits_for_one_that_does(
    adopter: Adopter, jobs: JobRepository, worker: UUID
) -> None:
    submission = sent([1])
    adopted = adopter.adopt([submission], worker=worker, served=[("pixels", 1)])
    assert adopted.jobs == ()
    assert (stored(jobs, submission).state, stored(jobs, submission).epoch) == (JobState.QUEUED, 0)


# Known ones


def test_a_redelivered_message_is_the_same_job(adopter: Adopter, jobs: JobRepository, worker: UUID) -> None:
    submission = sent([1])
    adopt(adopter, submission, worker=worker)
    again = adopt(adopter, submission, worker=uuid4())
    assert again.known == {submission.id}
    assert not again.jobs
    assert not again.refused
    assert (stored(jobs, submission).worker, stored(jobs, submission).epoch) == (worker, 1)


def test_a_bunch_that_several_workers_adopt_at_once_begins_once(
    adopter: Adopter, jobs: JobRepository
) -> None:
    bunch = [sent([n]) for n in range(300)]
    workers = [uuid4() for _ in range(4)]
    together = Barrier(len(workers))

    def take(worker: UUID) -> Adopted:
        together.wait()
        return adopt(adopter, *bunch, worker=worker)

    with ThreadPoolExecutor(len(workers)) as threads:
        taken = list(threads.map(take, workers))
    ids = {submission.id for submission in bunch}
    assert sorted(job.id for adopted in taken for job in adopted.jobs) == sorted(ids)
    assert all({job.id for job in adopted.jobs} | adopted.known == ids for adopted in taken)
    assert not any(adopted.refused for adopted in taken)


def test_a_known_id_with_another_body_is_refused(adopter: Adopter, jobs: JobRepository, worker: UUID) -> None:
    first = sent([1])
    other = sent([2], task_id=str(first.id))
    adopt(adopter, first, worker=worker)
    adopted = adopt(adopter, other, worker=worker)
    assert (adopted.jobs, adopted.known, adopted.accepted) == ((), frozenset(), ())
    assert reasons(adopted) == [
        f"job {first.id} is known with another body: a task id names one piece of work"
    ]
    assert stored(jobs, first).state is JobState.RUNNING


def test_an_id_that_comes_twice_in_one_bunch_is_one_job_and_a_refusal(adopter: Adopter, worker: UUID) -> None:
    first = sent([1])
    same, other = sent([1], task_id=str(first.id)), sent([2], task_id=str(first.id))
    adopted = adopt(adopter, first, same, other, sent([3]), worker=worker)
    assert len(adopted.jobs) == 2
    assert adopted.known == {first.id}
    assert [refusal.submission.rows for refusal in adopted.refused] == [[2]]


def test_a_large_conflicting_body_does_not_overwrite_the_first(
    adopter: Adopter, worker: UUID, store: ObjectStore
) -> None:
    first = sent([LARGE])
    (job,) = adopt(adopter, first, worker=worker).jobs
    assert (job.input, job.input_key is None) == (None, False)
    other = sent([LARGE.upper()], task_id=str(first.id))
    assert len(adopt(adopter, other, worker=worker).refused) == 1
    assert adopt(adopter, first, worker=worker).known == {first.id}
    assert decode_rows(load_block(store, Blob(None, job.input_key))) == [LARGE]


# Refusals


@pytest.mark.parametrize(
    ("submission", "reason"),
    [
        (sent([1], model="unheard"), "unheard"),
        (sent([1], version=9), "version 9"),
        (sent([1], version=2**40), "version 1099511627776"),
        (
            sent([[1.0, 2.0, 3.0]], model="pixels"),
            "row 0: input 'image' has the shape (3,): send float32 of shape (2)",
        ),
        (sent([0] * (MAX_JOB_ROWS + 1)), "10001 rows are more than one job holds (10000)"),
    ],
    ids=["model", "version", "absurd version", "signature", "rows"],
)
def test_what_no_model_can_run_is_refused_with_the_reason(
    adopter: Adopter, worker: UUID, submission: Submission, reason: str
) -> None:
    good = sent([1])
    adopted = adopt(adopter, submission, good, worker=worker)
    assert [job.id for job in adopted.jobs] == [good.id]
    assert len(adopted.refused) == 1
    assert reason in reasons(adopted)[0]


def test_rows_of_too_many_bytes_are_refused(adopter: Adopter, worker: UUID) -> None:
    adopted = adopt(adopter, sent(["x" * (MAX_JOB_BYTES + 1)]), worker=worker)
    assert "bytes, more than one job holds" in reasons(adopted)[0]


def test_what_postgres_cannot_hold_is_refused_alone(adopter: Adopter, worker: UUID) -> None:
    good = [sent([n]) for n in range(3)]
    bad = sent([9])._replace(metadata={"text": "\x00"})
    adopted = adopt(adopter, *good[:2], bad, good[2], worker=worker)
    assert {job.id for job in adopted.jobs} == {submission.id for submission in good}
    assert [refusal.submission for refusal in adopted.refused] == [bad]
    assert "Postgres cannot hold" in reasons(adopted)[0]


# Times


def test_a_task_with_an_eta_waits_and_is_woken(
    adopter: Adopter, jobs: JobRepository, worker: UUID, database: Database
) -> None:
    repair = JobRepair(database)
    moment = datetime.now(UTC) + timedelta(seconds=1)
    submission = sent([1], headers={"eta": moment.isoformat()})
    adopted = adopt(adopter, submission, worker=worker)
    assert (adopted.jobs, adopted.accepted) == ((), (submission,))
    waiting = stored(jobs, submission)
    assert (waiting.state, waiting.not_before, waiting.epoch) == (JobState.QUEUED, moment, 0)
    assert claim(jobs, submission.id, worker=worker) == []

    def woken() -> list[UUID]:
        with repair.duty(1) as cursor:
            assert cursor is not None
            return [requeued.due.id for requeued in repair.wake(cursor)]

    assert wait_until(woken) == [submission.id]
    (job,) = claim(jobs, submission.id, worker=worker)
    assert job.epoch == 1


def test_an_eta_in_the_past_is_now(adopter: Adopter, worker: UUID) -> None:
    submission = sent([1], headers={"eta": "2020-01-01T00:00:00+00:00"})
    assert len(adopt(adopter, submission, worker=worker).jobs) == 1


def test_a_task_that_has_expired_never_runs(
    adopter: Adopter, jobs: JobRepository, worker: UUID, database: Database
) -> None:
    submission = sent([1], headers={"expires": "2020-01-01T00:00:00+00:00"})
    assert adopt(adopter, submission, worker=worker).jobs == ()
    assert claim(jobs, submission.id, worker=worker) == []
    repair = JobRepair(database)
    with repair.duty(1) as cursor:
        assert cursor is not None
        assert repair.expire_overdue(cursor) == 1
    assert stored(jobs, submission).state is JobState.EXPIRED


def test_an_expiry_to_come_is_the_jobs_deadline(adopter: Adopter, jobs: JobRepository, worker: UUID) -> None:
    moment = datetime.now(UTC) + timedelta(hours=1)
    (job,) = adopt(adopter, sent([1], headers={"expires": moment.isoformat()}), worker=worker).jobs
    assert job.deadline_in_s == pytest.approx(3600, abs=60)
    assert jobs.get(job.id).deadline_at == moment


# Through the claimer


@pytest.fixture
def mailbox() -> list[Any]:
    return []


@pytest.fixture
def claimer(
    jobs: JobRepository, database: Database, adopter: Adopter, mailbox: list[Any]
) -> Iterator[Claimer]:
    claimer = Claimer(
        jobs, Quarantine(database), adopter, ceilings=MemoryCeilings(database), mailbox=mailbox.append
    )
    yield claimer
    claimer.stop()


def take(claimer: Claimer, mailbox: list[Any], *raws: bytes, worker: UUID) -> Claimed:
    mail = read(Bunch("shunter.bunch.1", tuple((QUEUE, raw) for raw in raws)))
    claimer.take(mail, worker=worker, served=SERVED)
    claimed = wait_until(lambda: mailbox and mailbox.pop())
    assert isinstance(claimed, Claimed)
    return claimed


def test_a_redelivered_queued_job_is_claimed_and_a_finished_one_dropped(
    claimer: Claimer, mailbox: list[Any], jobs: JobRepository, worker: UUID
) -> None:
    queued, done = submission_message("digits", [1]), submission_message("digits", [2])
    first = take(claimer, mailbox, queued, done, worker=worker)
    by_rows = {decode_rows(job.input or b"")[0]: job for job in first.jobs}
    jobs.settle([outcome(by_rows[2])], worker=worker)
    jobs.settle([outcome(by_rows[1], Move.RETURN)], worker=worker)
    again = take(claimer, mailbox, queued, done, worker=worker)
    assert [(job.id, job.epoch) for job in again.jobs] == [(by_rows[1].id, 2)]
    assert {envelope.id for envelope in again.envelopes} == {by_rows[1].id, by_rows[2].id}


def test_what_is_refused_is_quarantined_with_its_bytes(
    claimer: Claimer, mailbox: list[Any], database: Database, worker: UUID
) -> None:
    good = submission_message("digits", [1])
    bad = submission_message("digits", [1], version=9)
    claimed = take(claimer, mailbox, b"garbage", good, bad, worker=worker)
    assert len(claimed.jobs) == 1
    assert [refusal.submission.raw for refusal in claimed.refused] == [bad]
    kept = Quarantine(database)
    assert {kept.get(id).raw for id in kept.ids()} == {b"garbage", bad}


# Quarantine


def test_an_entry_that_is_taken_is_gone_and_one_whose_retry_failed_stays(database: Database) -> None:
    kept = Quarantine(database)
    misfit = Misfit(QUEUE, b"\x00 raw", "not JSON")
    kept.add([misfit, misfit])
    with pytest.raises(ZeroDivisionError):
        _take_and_fail(kept, misfit.id)
    (entry,) = kept.list()
    assert (entry.id, entry.queue, entry.size, entry.raw) == (misfit.id, QUEUE, 5, b"")
    with kept.take(misfit.id) as taken:
        assert taken.raw == b"\x00 raw"
    assert kept.list() == []


def _take_and_fail(kept: Quarantine, id: UUID) -> None:
    with kept.take(id):
        raise ZeroDivisionError


def test_a_message_quarantined_again_during_its_retry_stays(database: Database) -> None:
    kept = Quarantine(database)
    misfit = Misfit(QUEUE, b"raw", "first")
    kept.add([misfit])
    with ThreadPoolExecutor(1) as elsewhere, kept.take(misfit.id):
        again = elsewhere.submit(kept.add, [Misfit(QUEUE, b"raw", "second")])
        wait_until(lambda: _somebody_waits(database))
        assert not again.done()
    assert [entry.reason for entry in kept.list()] == ["second"]


def _somebody_waits(database: Database) -> bool:
    with database.transaction() as cursor:
        cursor.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return bool(cursor.fetchall())
