"""Which thread makes a claim."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from queue import SimpleQueue
from typing import Any
from uuid import UUID, uuid4

import pytest

from shunter.storage.database import Database
from shunter.storage.envelope import Due, by_list, pack
from shunter.storage.errors import DatabaseUnavailable
from shunter.storage.job import ClaimedJob, Priority
from shunter.storage.job_adoption import JobAdoption
from shunter.storage.job_repository import Served
from shunter.storage.memory_ceilings import MemoryCeilings
from shunter.storage.model_registry import ModelRegistry
from shunter.storage.quarantine import Quarantine
from shunter.storage.testing import InMemoryJobRepository, InMemoryObjectStore
from shunter.workers.adopter import Adopter
from shunter.workers.claimer import FEW_ENVELOPES, Claimed, Claimer, ClaimFailed, Reconciled
from shunter.workers.intake import Mail, read
from shunter.workers.lists import Bunch
from tests.stored_jobs import SERVED, insert

NOBODY = "postgresql://127.0.0.1:1/nobody"


class Repository(InMemoryJobRepository):
    """Remembers which threads claimed; `before` is what happens just before a claim."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []
        self.before: Callable[[], None] = lambda: None

    def claim(self, hints: Mapping[UUID, UUID], *, worker: UUID, served: Served) -> list[ClaimedJob]:
        self.threads.append(threading.get_ident())
        self.before()
        return super().claim(hints, worker=worker, served=served)


class Bench:
    """A claimer and what it reports."""

    def __init__(self, database: Database) -> None:
        self.repository, self.worker, self.mails = Repository(), uuid4(), SimpleQueue[Any]()
        adopter = Adopter(JobAdoption(database), ModelRegistry(database), InMemoryObjectStore())
        self.claimer = Claimer(
            self.repository,
            Quarantine(database),
            adopter,
            ceilings=MemoryCeilings(database),
            mailbox=self.mails.put,
        )

    def take(self, envelopes: int = 1) -> list[UUID]:
        """Have the jobs of so many envelopes claimed; their ids."""
        ids = [insert(self.repository) for _ in range(envelopes)]
        self.claimer.take(mail_of(ids), worker=self.worker, served=SERVED)
        return ids

    def claimed(self) -> list[UUID]:
        mail = self.mails.get(timeout=10)
        assert isinstance(mail, Claimed)
        return [job.id for job in mail.jobs]


def mail_of(ids: list[UUID]) -> Mail:
    envelopes = (pack([Due(id, "digits", 1, 1, Priority.STANDARD)], 0.0) for id in ids)
    entries = [
        (key, raw) for each in envelopes for key, messages in by_list(each).items() for raw in messages
    ]
    return read(Bunch("bunch", tuple(entries)))


@pytest.fixture
def bench() -> Iterator[Bench]:
    with closing(Database(NOBODY)) as database:
        bench = Bench(database)
        yield bench
        bench.claimer.stop()


@contextmanager
def claiming(bench: Bench) -> Iterator[None]:
    """The claimer's thread is at a claim within the block."""
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert go_on.wait(10)

    bench.repository.before = wait
    bench.take()
    assert begun.wait(10)
    bench.repository.before = lambda: None
    yield
    go_on.set()


def test_whoever_brings_a_few_envelopes_claims_them_itself(bench: Bench) -> None:
    with bench.claimer.helped():
        ids = bench.take()
        about_to = bench.claimer.keeps
        assert bench.mails.empty()
    assert (about_to, bench.claimer.keeps) == (True, False)
    assert bench.claimed() == ids
    assert bench.repository.threads == [threading.get_ident()]


def test_many_envelopes_are_claimed_by_the_claimers_thread(bench: Bench) -> None:
    with bench.claimer.helped():
        ids = bench.take(FEW_ENVELOPES + 1)
    assert sorted(bench.claimed()) == sorted(ids)
    assert threading.get_ident() not in bench.repository.threads


def test_nobody_claims_beside_the_claimers_thread(bench: Bench) -> None:
    with claiming(bench), bench.claimer.helped():
        second = bench.take()
    assert len(bench.claimed()) == 1
    assert bench.claimed() == second
    assert threading.get_ident() not in bench.repository.threads


def test_no_reconciliation_misses_a_claim_that_another_thread_makes(bench: Bench) -> None:
    """It is asked during the claim, and must not be answered before that is reported."""
    bench.repository.before = lambda: bench.claimer.reconcile(bench.worker)
    with bench.claimer.helped():
        ids = bench.take()
    assert bench.claimed() == ids
    mail = bench.mails.get(timeout=10)
    assert isinstance(mail, Reconciled)
    assert {claim.id for claim in mail.held} == set(ids)


def test_an_outage_is_waited_for_by_the_claimers_thread(bench: Bench) -> None:
    def refuse() -> None:
        raise DatabaseUnavailable("Postgres does not answer")

    bench.repository.before = refuse
    with bench.claimer.helped():
        bench.take()
    assert isinstance(bench.mails.get(timeout=10), ClaimFailed)
    here, there = bench.repository.threads
    assert here == threading.get_ident() != there
