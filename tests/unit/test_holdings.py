"""What a hub has in its hands."""

from __future__ import annotations

from shunter.storage.job import Claim, Priority
from shunter.storage.model_config import Batching
from shunter.storage.scoring.chunk import MAGIC
from shunter.workers.holdings import WINDOW_ROWS, Holdings, credit_rows
from tests.jobs import claimed_job


def test_rows_are_counted_by_model_version() -> None:
    holdings = Holdings()
    first, second = claimed_job(rows=3), claimed_job(rows=4)
    holdings.add(first)
    holdings.add(second)
    assert sum(holdings.rows(("digits", 1)).values()) == 7
    holdings.remove(first.id)
    assert sum(holdings.rows(("digits", 1)).values()) == 4


def test_chunks_of_scorings_fill_a_worker_by_their_number() -> None:
    holdings = Holdings()
    chunks = [claimed_job(rows=rows, input=MAGIC, priority=Priority.BULK) for rows in (5, 60_000)]
    for job in (*chunks, claimed_job(rows=2)):
        holdings.add(job)
    assert holdings.rows(("digits", 1), chunk_rows=10) == {Priority.STANDARD: 2, Priority.BULK: 20}
    holdings.remove(chunks[1].id)
    assert holdings.rows(("digits", 1), chunk_rows=10)[Priority.BULK] == 10
    holdings.clear()
    assert not any(holdings.rows(("digits", 1), chunk_rows=10).values())


def test_jobs_that_are_held_apart_keep_no_other_out() -> None:
    holdings = Holdings()
    searched = [claimed_job(rows=4096), claimed_job(rows=9, input=MAGIC)]
    gone = claimed_job(rows=5)
    for job in (*searched, claimed_job(rows=2)):
        holdings.add(job)
    apart = [Claim(job.id, job.epoch) for job in (*searched, gone)]
    assert sum(holdings.rows(("digits", 1), chunk_rows=10, apart=apart).values()) == 2
    assert sum(holdings.rows(("digits", 1), chunk_rows=10).values()) == 4096 + 10 + 2


def test_a_second_claim_of_a_job_replaces_the_first() -> None:
    holdings = Holdings()
    job = claimed_job(rows=3)
    holdings.add(job)
    holdings.add(claimed_job(id=job.id, epoch=2, rows=3))
    assert (len(holdings), sum(holdings.rows(("digits", 1)).values())) == (1, 3)
    assert holdings.get(job.id, 1) is None
    assert holdings.get(job.id, 2) is not None


def test_finished_jobs_are_held_but_not_unfinished() -> None:
    holdings = Holdings()
    held = holdings.add(claimed_job())
    held.finished = True
    assert (len(holdings), holdings.unfinished()) == (1, [])


def test_rows_that_have_left_are_counted_once() -> None:
    holdings, key = Holdings(), ("digits", 1)
    first, second = claimed_job(rows=3), claimed_job(rows=4)
    holdings.add(first)
    holdings.add(second)
    assert holdings.gone(key) == 0
    holdings.remove(first.id)
    holdings.remove(first.id)
    assert holdings.gone(key) == 3


def test_a_hub_holds_two_batches_or_half_a_second_of_work() -> None:
    assert credit_rows(Batching(max_rows=256), 0.0) == 512
    assert credit_rows(Batching(max_rows=256), 10_000.0) == 5_000


def test_a_model_that_counts_tokens_is_given_a_window_to_look_ahead() -> None:
    assert credit_rows(Batching(max_rows=32), 0.0) == 64
    assert credit_rows(Batching(max_rows=32, max_tokens=1024), 0.0) == WINDOW_ROWS


def test_a_deadline_goes_on_while_a_job_waits_and_ends_when_it_has_begun() -> None:
    held = Holdings().add(claimed_job(deadline_in_s=60.0))
    assert held.as_of(held.claimed_at + 20.0).deadline_in_s == 40.0
    held.begun = True
    assert held.as_of(held.claimed_at + 20.0).deadline_in_s is None
