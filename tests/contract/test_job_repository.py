"""One suite for the repository of jobs, on Postgres and in memory."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psycopg2
import pytest

from shunter.embedded import EmbeddedServer
from shunter.storage.database import Database
from shunter.storage.errors import AlreadyFinished, IdempotencyConflict, UnknownJob
from shunter.storage.ids import new_id, new_ids
from shunter.storage.job import MOVES, Claim, ClaimedJob, JobState, LegalMove, Move, Priority
from shunter.storage.job_repository import JobRepository
from shunter.storage.outcome import Outcome, RowFailure, StoredResult, failed
from shunter.storage.results import Blob
from shunter.storage.testing import InMemoryJobRepository
from tests.stored_jobs import SERVED, SETTLING, age_jobs, claim, insert, insert_claimed, new_job, outcome

HUB, OTHER_HUB = uuid4(), uuid4()

TEXTS = ["grüße 你好", "\U0001f680", "quotes \" ' \\ \\u0000", "%s %(id)s", "tab\tline\nend", "\x7f"]


@dataclass(frozen=True)
class Store:
    """A repository, and how to let time pass for what is in it."""

    jobs: JobRepository
    wait: Callable[[float], None]


def _in_memory() -> Store:
    waited = [0.0]
    return Store(
        InMemoryJobRepository(lambda: datetime.now(UTC) + timedelta(seconds=sum(waited))), waited.append
    )


def _in_postgres(database: Database) -> Store:
    return Store(JobRepository(database), lambda seconds: age_jobs(database, seconds))


@pytest.fixture(scope="module")
def database(postgres_server: EmbeddedServer, template_database: str) -> Iterator[Database]:
    """One for the whole suite: emptying it takes a tenth of the time that making another does."""
    name = "job_repository_suite"
    with closing(psycopg2.connect(postgres_server.url)) as connection:
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")
    database = Database(urlsplit(postgres_server.url)._replace(path=f"/{name}").geturl())
    yield database
    database.close()


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "memory":
        return _in_memory()
    database: Database = request.getfixturevalue("database")
    with database.transaction() as cursor:
        cursor.execute("DELETE FROM jobs; DELETE FROM idempotency_keys")
    return _in_postgres(database)


@pytest.fixture
def jobs(store: Store) -> JobRepository:
    return store.jobs


def settle(jobs: JobRepository, *outcomes: Outcome, worker: UUID = HUB) -> set[UUID]:
    return jobs.settle(outcomes, worker=worker)


def in_state(jobs: JobRepository, state: JobState) -> ClaimedJob:
    """A job that has come to this state by way of a claim of HUB, which it may hold no more."""
    job = insert_claimed(jobs, HUB)
    if state is JobState.CANCELLED:
        jobs.cancel(job.id)
    elif state is not JobState.RUNNING:
        back_or_done = {target: move for move, target in SETTLING.items()}
        settle(jobs, outcome(job, back_or_done[state]))
    return job


# Storing


def test_a_new_job_is_queued_and_nobody_has_touched_it(jobs: JobRepository) -> None:
    new = new_job(
        rows=3, priority=Priority.BULK, deadline_s=60.0, metadata={"run": 7}, redriven_from=new_id()
    )
    enqueued_at = jobs.insert([new])
    job = jobs.get(new.id)
    assert (job.tenant, job.model, job.version, job.rows) == ("default", "digits", 1, 3)
    assert (job.state, job.priority, job.metadata) == (JobState.QUEUED, Priority.BULK, {"run": 7})
    assert (job.attempts, job.deaths, job.epoch, job.rows_succeeded, job.rows_failed) == (0, 0, 0, 0, 0)
    assert job.enqueued_at == enqueued_at
    assert job.deadline_at == enqueued_at + timedelta(seconds=60)
    assert job.redriven_from == new.redriven_from
    unset = (job.worker, job.error, job.not_before, job.started_at, job.forward_at, job.finished_at)
    assert unset == (None,) * 6
    assert abs(job.created_at - datetime.now(UTC)) < timedelta(seconds=30)


def test_jobs_stored_together_share_their_time(jobs: JobRepository) -> None:
    new = [new_job(id=id) for id in new_ids(300)]
    enqueued_at = jobs.insert(new)
    assert {job.enqueued_at for job in jobs.get_many([job.id for job in new]).values()} == {enqueued_at}


def test_jobs_that_are_not_yet_on_disk_are_there_for_everybody(jobs: JobRepository) -> None:
    new = [new_job(id=id) for id in new_ids(3)]
    with jobs.storing() as storing:
        enqueued_at = storing.insert(new)
        assert {job.enqueued_at for job in jobs.get_many([job.id for job in new]).values()} == {enqueued_at}
        storing.sync()
    assert len(jobs.find()) == 3


def test_no_jobs_are_stored_without_harm(jobs: JobRepository) -> None:
    jobs.ping()
    jobs.insert([])
    assert jobs.find() == []


def test_jobs_are_stored_all_or_none(jobs: JobRepository) -> None:
    known = insert(jobs)
    with pytest.raises(psycopg2.errors.UniqueViolation):
        jobs.insert([new_job(), new_job(id=known, rows=9)])
    assert [(job.id, job.rows) for job in jobs.find()] == [(known, 1)]


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {text: text for text in TEXTS},
        {"deep": {"list": [1, 2.5, None, True, [], {}]}},
        {"big": 2**63 - 1},
        {"": ""},
    ],
)
def test_metadata_comes_back(jobs: JobRepository, metadata: dict[str, Any]) -> None:
    assert jobs.get(insert(jobs, metadata=metadata)).metadata == metadata


@pytest.mark.parametrize("metadata", [{"a": "\x00"}, {"\x00": 1}, {"a": [{"b": "x\x00y"}]}])
def test_metadata_with_nul_is_refused_and_nothing_is_stored(
    jobs: JobRepository, metadata: dict[str, Any]
) -> None:
    with pytest.raises(psycopg2.DataError):
        jobs.insert([new_job(), new_job(metadata=metadata)])
    assert jobs.find() == []


def test_metadata_that_is_no_json_is_refused(jobs: JobRepository) -> None:
    with pytest.raises(TypeError):
        jobs.insert([new_job(metadata={"a": "\ud800"})])
    assert jobs.find() == []


@pytest.mark.parametrize("block", [b"", b"\x00", bytes(range(256)) * 4096])
def test_an_input_block_reaches_the_claim_unchanged(jobs: JobRepository, block: bytes) -> None:
    job = insert_claimed(jobs, HUB, input=block)
    assert (job.input, job.input_key) == (block, None)


def test_an_input_key_reaches_the_claim(jobs: JobRepository) -> None:
    job = insert_claimed(jobs, HUB, input=None, input_key="inputs/20261121/a")
    assert (job.input, job.input_key) == (None, "inputs/20261121/a")


# Idempotency keys


def test_the_same_key_and_body_give_the_same_job(jobs: JobRepository) -> None:
    first, second = new_job(), new_job()
    id, enqueued_at = jobs.insert_once(first, key="nightly", body_digest=b"1")
    assert id == first.id
    assert enqueued_at == jobs.get(id).enqueued_at
    assert jobs.insert_once(second, key="nightly", body_digest=b"1") == (first.id, None)
    assert [job.id for job in jobs.find()] == [first.id]


def test_the_same_key_with_another_body_is_a_conflict(jobs: JobRepository) -> None:
    id, _ = jobs.insert_once(new_job(), key="nightly", body_digest=b"1")
    with pytest.raises(IdempotencyConflict, match=str(id)):
        jobs.insert_once(new_job(), key="nightly", body_digest=b"2")
    assert len(jobs.find()) == 1


def test_keys_belong_to_their_tenant(jobs: JobRepository) -> None:
    ours, theirs = new_job(), new_job(tenant="others")
    assert jobs.insert_once(ours, key="nightly", body_digest=b"1")[0] == ours.id
    assert jobs.insert_once(theirs, key="nightly", body_digest=b"2")[0] == theirs.id


def test_a_key_is_free_after_a_refused_job(jobs: JobRepository) -> None:
    with pytest.raises(psycopg2.DataError):
        jobs.insert_once(new_job(metadata={"a": "\x00"}), key="nightly", body_digest=b"1")
    good = new_job()
    assert jobs.insert_once(good, key="nightly", body_digest=b"2")[0] == good.id


def test_of_concurrent_submits_with_one_key_one_job_is_stored(jobs: JobRepository) -> None:
    new = [new_job() for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda job: jobs.insert_once(job, key="k", body_digest=b"1"), new))
    (stored,) = jobs.find()
    assert {id for id, _ in answers} == {stored.id}
    assert [enqueued_at for _, enqueued_at in answers if enqueued_at] == [stored.enqueued_at]


# Claiming


def test_a_claim_tells_the_engine_all_that_it_needs(store: Store) -> None:
    id = insert(store.jobs, rows=4, priority=Priority.INTERACTIVE, deadline_s=60.0)
    store.wait(20)
    (job,) = claim(store.jobs, id, worker=HUB)
    assert (job.id, job.epoch, job.model, job.version, job.rows) == (id, 1, "digits", 1, 4)
    assert (job.priority, job.attempts, job.deaths) == (Priority.INTERACTIVE, 0, 0)
    assert job.deadline_in_s == pytest.approx(40, abs=15)
    assert job.queued_s == pytest.approx(20, abs=15)


def test_a_claimed_job_is_running_and_names_its_worker(jobs: JobRepository) -> None:
    job = jobs.get(insert_claimed(jobs, HUB).id)
    assert (job.state, job.worker, job.epoch) == (JobState.RUNNING, HUB, 1)
    assert job.started_at is not None


def test_a_job_without_a_deadline_has_no_end(jobs: JobRepository) -> None:
    assert insert_claimed(jobs, HUB).deadline_in_s is None


def test_a_job_is_claimed_once(jobs: JobRepository) -> None:
    id = insert_claimed(jobs, HUB).id
    assert claim(jobs, id, worker=OTHER_HUB) == []
    assert claim(jobs, id, worker=HUB) == []
    assert jobs.held(HUB) == {Claim(id, 1)}


@pytest.mark.parametrize("served", [[], [("digits", 2)], [("other", 1)], [("digits", 2), ("other", 1)]])
def test_a_job_of_a_version_that_the_hub_does_not_serve_stays(
    jobs: JobRepository, served: list[tuple[str, int]]
) -> None:
    id = insert(jobs)
    assert jobs.claim({id: uuid4()}, worker=HUB, served=served) == []
    assert jobs.get(id).state is JobState.QUEUED


def test_of_a_mixed_bunch_only_the_claimable_are_taken(jobs: JobRepository) -> None:
    ready, second = insert(jobs), insert(jobs, model="other", version=3)
    wrong, taken = insert(jobs, version=2), insert_claimed(jobs, OTHER_HUB).id
    hints = dict.fromkeys([ready, second, wrong, taken, new_id(), uuid4()], uuid4())
    claimed = jobs.claim(hints, worker=HUB, served=[("digits", 1), ("other", 3)])
    assert {job.id for job in claimed} == {ready, second}


def test_no_hints_claim_nothing(jobs: JobRepository) -> None:
    insert(jobs)
    assert jobs.claim({}, worker=HUB, served=SERVED) == []


def test_a_job_past_its_deadline_is_not_claimed(store: Store) -> None:
    id = insert(store.jobs, deadline_s=60.0)
    store.wait(61)
    assert claim(store.jobs, id, worker=HUB) == []
    assert store.jobs.get(id).state is JobState.QUEUED


# Settling


def test_a_success_is_written_whole(jobs: JobRepository) -> None:
    job = insert_claimed(jobs, HUB, rows=3)
    failures = (RowFailure(1, "too_dark", "no digit to be seen"),)
    done = outcome(job, rows_succeeded=2, rows_failed=1, failures=failures, forward_age_s=5.0)
    assert settle(jobs, done) == {job.id}
    stored = jobs.get(job.id)
    assert (stored.state, stored.rows_succeeded, stored.rows_failed) == (JobState.SUCCEEDED, 2, 1)
    assert (stored.worker, stored.epoch, stored.attempts, stored.error) == (HUB, 1, 0, None)
    assert stored.finished_at is not None
    assert stored.forward_at is not None
    assert stored.finished_at - stored.forward_at == timedelta(seconds=5)
    result = StoredResult(JobState.SUCCEEDED, 3, Blob(b"outputs", None), failures, None)
    assert jobs.results([job.id]) == {job.id: result}


def test_many_outcomes_are_written_at_once(jobs: JobRepository) -> None:
    claimed = claim(jobs, *[insert(jobs) for _ in range(30)], worker=HUB)
    moves = list(SETTLING)
    outcomes = [outcome(job, moves[index % len(moves)]) for index, job in enumerate(claimed)]
    assert settle(jobs, *reversed(outcomes)) == {job.id for job in claimed}
    assert jobs.states([job.id for job in claimed]) == {done.id: done.state for done in outcomes}


def test_no_outcomes_write_nothing(jobs: JobRepository) -> None:
    assert settle(jobs) == set()


@pytest.mark.parametrize("output", [b"", b"\x00", bytes(range(256)) * 4096, b"\\x00 'quoted' %s"])
def test_an_output_block_comes_back_unchanged(jobs: JobRepository, output: bytes) -> None:
    job = insert_claimed(jobs, HUB)
    settle(jobs, outcome(job, output=Blob(output, None)))
    assert jobs.results([job.id])[job.id].output == Blob(output, None)


def test_an_output_key_comes_back(jobs: JobRepository) -> None:
    job = insert_claimed(jobs, HUB)
    settle(jobs, outcome(job, output=Blob(None, "outputs/20261121/a/1")))
    assert jobs.results([job.id])[job.id].output == Blob(None, "outputs/20261121/a/1")


@pytest.mark.parametrize("text", TEXTS)
def test_messages_come_back(jobs: JobRepository, text: str) -> None:
    job = insert_claimed(jobs, HUB)
    error = {"code": text, "message": text}
    settle(jobs, outcome(job, Move.FAIL, error=error, failures=(RowFailure(0, text, text),)))
    assert jobs.results([job.id])[job.id].failures == (RowFailure(0, text, text),)
    assert jobs.get(job.id).error == error


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "x" * 10_000])
def test_texts_that_postgres_refuses_do_not_hold_up_the_others(jobs: JobRepository, text: str) -> None:
    good, bad = (insert_claimed(jobs, HUB) for _ in range(2))
    error = {"code": text, "message": text}
    worst = outcome(bad, Move.FAIL, error=error, failures=(RowFailure(0, text, text),))
    assert settle(jobs, outcome(good), worst) == {good.id, bad.id}
    (failure,) = jobs.results([bad.id])[bad.id].failures
    assert jobs.get(bad.id).error == {"code": failure.code, "message": failure.message}
    assert len(failure.message) <= 2000


def test_a_failed_job_names_every_row(jobs: JobRepository) -> None:
    job = insert_claimed(jobs, HUB, rows=3)
    settle(jobs, failed(job.id, job.epoch, code="oom", message="too big", rows=3))
    result = jobs.results([job.id])[job.id]
    assert (jobs.get(job.id).rows_failed, result.output) == (3, None)
    assert result.row_failures() == tuple(RowFailure(index, "oom", "too big") for index in range(3))


@pytest.mark.parametrize("state", [JobState.CANCELLED, JobState.EXPIRED])
def test_a_job_that_never_ran_names_every_row(jobs: JobRepository, state: JobState) -> None:
    job = in_state(jobs, state)
    (failure,) = jobs.results([job.id])[job.id].row_failures()
    assert (failure.index, failure.code) == (0, state)


def test_a_settle_by_another_worker_is_refused(jobs: JobRepository) -> None:
    job = insert_claimed(jobs, HUB)
    assert settle(jobs, outcome(job), worker=OTHER_HUB) == set()
    assert jobs.get(job.id).state is JobState.RUNNING


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_settle_of_another_epoch_is_refused(jobs: JobRepository, epoch: int) -> None:
    job = insert_claimed(jobs, HUB)
    assert settle(jobs, outcome(job)._replace(epoch=epoch)) == set()
    assert jobs.get(job.id).state is JobState.RUNNING


def test_a_settle_after_a_cancel_is_refused(jobs: JobRepository) -> None:
    job = insert_claimed(jobs, HUB)
    jobs.cancel(job.id)
    assert settle(jobs, outcome(job)) == set()
    assert jobs.results([job.id])[job.id].output is None


def test_a_second_settle_is_refused(jobs: JobRepository) -> None:
    job = insert_claimed(jobs, HUB)
    assert settle(jobs, outcome(job)) == {job.id}
    assert settle(jobs, failed(job.id, job.epoch, code="late", message="late", rows=1)) == set()
    assert jobs.get(job.id).state is JobState.SUCCEEDED


@pytest.mark.parametrize("second_owner", [HUB, OTHER_HUB])
def test_a_stale_owner_cannot_settle_a_job_claimed_again(jobs: JobRepository, second_owner: UUID) -> None:
    stale = insert_claimed(jobs, HUB)
    settle(jobs, outcome(stale, Move.RETURN))
    (fresh,) = claim(jobs, stale.id, worker=second_owner)
    assert settle(jobs, outcome(stale)) == set()
    assert settle(jobs, outcome(fresh), worker=second_owner) == {stale.id}


def test_an_unknown_job_is_not_settled_and_the_others_are(jobs: JobRepository) -> None:
    job = insert_claimed(jobs, HUB)
    assert settle(jobs, outcome(job._replace(id=new_id())), outcome(job)) == {job.id}


# Going back to the queue


def test_a_retry_waits_and_counts_its_attempt(store: Store) -> None:
    jobs, job = store.jobs, insert_claimed(store.jobs, HUB)
    error = {"code": "transient", "message": "not yet"}
    settle(jobs, outcome(job, Move.RETRY, retry_in_s=60.0, counts_attempt=True, error=error))
    stored = jobs.get(job.id)
    assert (stored.state, stored.attempts, stored.error) == (JobState.QUEUED, 1, error)
    assert (stored.worker, stored.started_at, stored.finished_at) == (None, None, None)
    assert stored.not_before == stored.enqueued_at + timedelta(seconds=60)
    assert claim(jobs, job.id, worker=HUB) == []
    store.wait(61)
    (again,) = claim(jobs, job.id, worker=OTHER_HUB)
    assert (again.epoch, again.attempts) == (2, 1)
    assert jobs.get(job.id).not_before is None


def test_attempts_add_up(jobs: JobRepository) -> None:
    id = insert(jobs)
    for attempts in range(3):
        (job,) = claim(jobs, id, worker=HUB)
        assert job.attempts == attempts
        settle(jobs, outcome(job, Move.RETRY, counts_attempt=True))


def test_a_return_is_due_at_once_and_counts_nothing(jobs: JobRepository) -> None:
    job = insert_claimed(jobs, HUB)
    before = jobs.get(job.id)
    settle(jobs, outcome(job, Move.RETURN))
    after = jobs.get(job.id)
    assert (after.state, after.attempts, after.deaths, after.not_before) == (JobState.QUEUED, 0, 0, None)
    assert (after.worker, after.started_at, after.finished_at) == (None, None, None)
    assert after.enqueued_at > before.enqueued_at
    assert after.created_at == before.created_at


def test_the_epoch_rises_at_every_claim_and_is_never_reset(jobs: JobRepository) -> None:
    id = insert(jobs)
    for epoch in range(1, 6):
        (job,) = claim(jobs, id, worker=HUB)
        assert job.epoch == jobs.get(id).epoch == epoch
        settle(jobs, outcome(job, Move.RETURN))
        assert jobs.get(id).epoch == epoch


def test_the_last_forward_is_remembered_over_a_return(store: Store) -> None:
    jobs, job = store.jobs, insert_claimed(store.jobs, HUB)
    settle(jobs, outcome(job, Move.RETRY, forward_age_s=2.0))
    forward_at = jobs.get(job.id).forward_at
    assert forward_at is not None
    (again,) = claim(jobs, job.id, worker=HUB)
    settle(jobs, outcome(again, Move.RETURN))
    assert jobs.get(job.id).forward_at == forward_at


# What a hub holds


def test_a_hub_holds_what_it_claimed_until_it_settles(jobs: JobRepository) -> None:
    first, second = (insert_claimed(jobs, HUB) for _ in range(2))
    insert_claimed(jobs, OTHER_HUB)
    assert jobs.held(HUB) == {Claim(first.id, 1), Claim(second.id, 1)}
    settle(jobs, outcome(first), outcome(second, Move.RETURN))
    assert jobs.held(HUB) == set()


def test_deaths_are_charged_to_the_claims_that_hold(jobs: JobRepository) -> None:
    mine, theirs = insert_claimed(jobs, HUB), insert_claimed(jobs, OTHER_HUB)
    stale, done = Claim(insert_claimed(jobs, HUB).id, 7), insert_claimed(jobs, HUB)
    settle(jobs, outcome(done))
    claims = [Claim(mine.id, 1), Claim(theirs.id, 1), stale, Claim(done.id, 1), Claim(new_id(), 1)]
    assert jobs.count_deaths(claims, worker=HUB) == {mine.id: 1}
    assert jobs.count_deaths(claims, worker=HUB) == {mine.id: 2}
    assert jobs.get(mine.id).deaths == 2
    assert jobs.count_deaths([], worker=HUB) == {}


def test_deaths_and_attempts_reach_the_next_claim(jobs: JobRepository) -> None:
    job = insert_claimed(jobs, HUB)
    jobs.count_deaths([Claim(job.id, job.epoch)], worker=HUB)
    settle(jobs, outcome(job, Move.RETRY, counts_attempt=True))
    (again,) = claim(jobs, job.id, worker=OTHER_HUB)
    assert (again.deaths, again.attempts) == (1, 1)


# Cancelling


def test_a_queued_job_is_cancelled_and_claimed_no_more(jobs: JobRepository) -> None:
    id = insert(jobs)
    job = jobs.cancel(id)
    assert (job.id, job.state) == (id, JobState.CANCELLED)
    assert job.finished_at is not None
    assert claim(jobs, id, worker=HUB) == []


def test_a_running_job_is_cancelled_and_held_no_more(jobs: JobRepository) -> None:
    job = insert_claimed(jobs, HUB)
    assert jobs.cancel(job.id).state is JobState.CANCELLED
    assert jobs.held(HUB) == set()


def test_a_second_cancel_changes_nothing(jobs: JobRepository) -> None:
    id = insert(jobs)
    assert jobs.cancel(id) == jobs.cancel(id) == jobs.get(id)


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.EXPIRED])
def test_a_finished_job_is_not_cancelled(jobs: JobRepository, state: JobState) -> None:
    id = in_state(jobs, state).id
    with pytest.raises(AlreadyFinished, match=state):
        jobs.cancel(id)
    assert jobs.get(id).state is state


def test_an_unknown_job_is_not_cancelled(jobs: JobRepository) -> None:
    with pytest.raises(UnknownJob):
        jobs.cancel(new_id())


def test_the_job_of_another_tenant_is_unknown(jobs: JobRepository) -> None:
    id = insert(jobs, tenant="others")
    with pytest.raises(UnknownJob):
        jobs.cancel(id)
    with pytest.raises(UnknownJob):
        jobs.get(id)
    assert (jobs.get_many([id]), jobs.states([id]), jobs.results([id]), jobs.find()) == ({}, {}, {}, [])
    assert jobs.get(id, tenant="others").state is JobState.QUEUED
    assert jobs.cancel(id, tenant="others").state is JobState.CANCELLED


# Every move, legal or not


@pytest.mark.parametrize("source", JobState)
def test_only_legal_moves_are_made(jobs: JobRepository, source: JobState) -> None:
    for move in [Move.CLAIM, Move.CANCEL, *SETTLING]:
        job = in_state(jobs, source)
        before = jobs.get(job.id)
        assert before.state is source
        moved = _make(jobs, move, job)
        # Only housekeeping ends a job that nobody holds.
        legal = {m for m in MOVES if m.source is JobState.RUNNING or m.move not in SETTLING}
        target = jobs.get(job.id).state
        assert moved == any((m.source, m.move) == (source, move) for m in legal)
        assert LegalMove(source, move, target) in legal if moved else jobs.get(job.id) == before


def _make(jobs: JobRepository, move: Move, job: ClaimedJob) -> bool:
    if move is Move.CLAIM:
        return claim(jobs, job.id, worker=OTHER_HUB) != []
    if move is not Move.CANCEL:
        return settle(jobs, outcome(job, move)) == {job.id}
    before = jobs.get(job.id).state
    try:
        return jobs.cancel(job.id).state is not before
    except AlreadyFinished:
        return False


def test_an_outcome_that_is_no_legal_move_is_not_settled(jobs: JobRepository) -> None:
    job = insert_claimed(jobs, HUB)
    with pytest.raises(ValueError, match="no running job"):
        settle(jobs, Outcome(id=job.id, epoch=job.epoch, move=Move.CLAIM))
    assert jobs.get(job.id).state is JobState.RUNNING


# Asking


def test_many_jobs_are_read_at_once_and_unknown_ones_left_out(jobs: JobRepository) -> None:
    first, second = insert(jobs), insert_claimed(jobs, HUB).id
    asked = [first, second, new_id()]
    assert jobs.get_many(asked).keys() == {first, second}
    assert jobs.states(asked) == {first: JobState.QUEUED, second: JobState.RUNNING}
    assert jobs.results(asked).keys() == {first, second}
    assert (jobs.get_many([]), jobs.states([]), jobs.results([])) == ({}, {}, {})


def test_an_unfinished_job_has_no_result(jobs: JobRepository) -> None:
    id = insert(jobs, rows=2)
    assert jobs.results([id])[id] == StoredResult(JobState.QUEUED, 2, None, (), None)


def test_the_newest_jobs_are_found_first_page_by_page(jobs: JobRepository) -> None:
    ids = new_ids(7)
    jobs.insert([new_job(id=id) for id in ids])
    first = jobs.find(limit=3)
    second = jobs.find(limit=3, before=first[-1].id)
    third = jobs.find(limit=3, before=second[-1].id)
    assert [job.id for job in first + second + third] == ids[::-1]
    assert jobs.find(before=third[-1].id) == []


def test_jobs_are_found_by_state_and_model(jobs: JobRepository) -> None:
    queued, running = insert(jobs), insert_claimed(jobs, HUB).id
    other = insert(jobs, model="other")
    assert [job.id for job in jobs.find(state=JobState.QUEUED)] == [other, queued]
    assert [job.id for job in jobs.find(model="digits")] == [running, queued]
    assert [job.id for job in jobs.find(model="digits", state=JobState.QUEUED)] == [queued]
    assert jobs.find(state=JobState.FAILED) == []


def test_rows_ahead_are_those_queued_earlier_in_the_same_line(store: Store) -> None:
    jobs = store.jobs
    insert_claimed(jobs, HUB, rows=100)
    insert(jobs, rows=30)
    insert(jobs, rows=12, version=2)
    insert(jobs, rows=500, model="other")
    insert(jobs, rows=500, priority=Priority.BULK)
    store.wait(1)
    mine = insert(jobs, rows=7)
    store.wait(1)
    insert(jobs, rows=900)
    assert jobs.rows_ahead(jobs.get(mine)) == 42


def test_nothing_is_ahead_of_a_job_alone(jobs: JobRepository) -> None:
    assert jobs.rows_ahead(jobs.get(insert(jobs))) == 0


def test_the_stand_in_replaces_every_method() -> None:
    public = [name for name, _ in inspect.getmembers(JobRepository, inspect.isfunction) if name[0] != "_"]
    assert [name for name in public if name not in vars(InMemoryJobRepository)] == []
