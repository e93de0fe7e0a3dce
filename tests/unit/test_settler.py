"""How outcomes are written, and by which thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from typing import Any
from uuid import UUID, uuid4

import psycopg2
import pytest

from shunter.storage.errors import DatabaseUnavailable
from shunter.storage.job import Move
from shunter.storage.outcome import Outcome
from shunter.storage.results import Blob
from shunter.storage.testing import InMemoryJobRepository
from shunter.workers.lists import Lists
from shunter.workers.settler import FEW_OUTCOMES, Settled, Settlement, Settler, parts
from tests.stored_jobs import claim, insert, insert_claimed
from tests.stored_jobs import outcome as outcome_of

UNSPEAKABLE = b"unspeakable"


class PickyRepository(InMemoryJobRepository):
    """Refuses an output as Postgres refuses data that it cannot hold."""

    def settle(self, outcomes: Sequence[Outcome], *, worker: UUID) -> set[UUID]:
        if any(o.output is not None and o.output.inline == UNSPEAKABLE for o in outcomes):
            raise psycopg2.DataError("unspeakable")
        return super().settle(outcomes, worker=worker)


def test_an_outcome_that_postgres_refuses_fails_its_job_alone() -> None:
    repository, worker, mailbox = PickyRepository(), uuid4(), SimpleQueue[Any]()
    announced: list[Any] = []
    ids = [insert(repository) for _ in range(3)]
    claimed = claim(repository, *ids, worker=worker)
    settler = Settler(repository, Lists("redis://127.0.0.1:1/0"), mailbox.put, announce=announced.append)
    for number, job in enumerate(claimed):
        output = Blob(UNSPEAKABLE if number == 1 else b"fine", None)
        outcome = Outcome(
            id=job.id,
            epoch=job.epoch,
            move=Move.SUCCEED,
            output=output,
            rows_succeeded=job.rows,
        )
        settler.settle([Settlement(outcome, worker)])
    settler.stop(10)
    assert [repository.get(job.id).state for job in claimed] == ["succeeded", "failed", "succeeded"]
    assert (repository.get(claimed[1].id).error or {})["code"] == "bad_outcome"


class Repository(InMemoryJobRepository):
    """Remembers which threads settled; the reply to so many settlements is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []
        self.lost_replies = 0

    def settle(self, outcomes: Sequence[Outcome], *, worker: UUID) -> set[UUID]:
        self.threads.append(threading.get_ident())
        written = super().settle(outcomes, worker=worker)
        if self.lost_replies:
            self.lost_replies -= 1
            raise DatabaseUnavailable("the connection broke")
        return written


class Bench:
    """A settler and what it reports."""

    def __init__(self) -> None:
        self.repository, self.worker, self.mails = Repository(), uuid4(), SimpleQueue[Any]()
        nobody = Lists("redis://127.0.0.1:1/0")
        self.settler = Settler(self.repository, nobody, self.mails.put, announce=lambda ids: None)

    def settle(self, count: int = 1, *, last: bool = True) -> set[UUID]:
        """Have so many jobs settled; their ids."""
        jobs = [insert_claimed(self.repository, self.worker) for _ in range(count)]
        self.settler.settle([Settlement(outcome_of(job), self.worker) for job in jobs], last=last)
        return {job.id for job in jobs}

    def written(self) -> set[UUID]:
        mail = self.mails.get(timeout=10)
        assert isinstance(mail, Settled)
        return set(mail.written)

    @property
    def here(self) -> bool:
        """Whether this thread has settled."""
        return threading.get_ident() in self.repository.threads


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.settler.stop(10)


def test_whoever_brings_the_last_outcomes_writes_them_itself(bench: Bench) -> None:
    with bench.settler.helped():
        ids = bench.settle()
        about_to = bench.settler.keeps
        assert bench.mails.empty()
    assert bench.written() == ids
    assert bench.here
    assert (about_to, bench.settler.keeps) == (True, False)


def test_other_outcomes_are_written_by_the_settlers_thread(bench: Bench) -> None:
    with bench.settler.helped():
        ids = bench.settle(last=False)
    assert bench.written() == ids
    with bench.settler.helped():
        ids = bench.settle(FEW_OUTCOMES + 1)
    assert bench.written() == ids
    assert not bench.here


def test_what_a_lost_reply_leaves_unknown_is_found_out_by_the_settlers_thread(bench: Bench) -> None:
    bench.repository.lost_replies = 1
    with bench.settler.helped():
        ids = bench.settle()
    assert bench.written() == ids
    here, there = bench.repository.threads
    assert here == threading.get_ident() != there


def test_outcomes_of_two_incarnations_are_written_apart() -> None:
    repository, old, new = InMemoryJobRepository(), uuid4(), uuid4()
    owners = [old, old, new, old]
    settlements = [Settlement(outcome_of(insert_claimed(repository, owner)), owner) for owner in owners]
    assert [[one.worker for one in part] for part in parts(settlements)] == [[old, old], [new], [old]]
