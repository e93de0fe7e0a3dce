"""Threads that submit at once: who commits for whom."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime

import psycopg2
import pytest

from shunter.producers.shared_commits import Draft, SharedCommits
from shunter.storage.errors import DatabaseUnavailable, InvalidInput
from shunter.storage.ids import new_id
from shunter.storage.job import NewJob
from shunter.storage.job_insertion import Storing
from shunter.storage.testing import InMemoryJobRepository
from tests.waiting import wait_until


class Push:
    """Envelopes on their way; says so, and that Redis has answered."""

    def __init__(self, steps: list[str]) -> None:
        self._steps = steps
        steps.append("sent")

    def close(self) -> None:
        self._steps.append("answered")


class GatedRepository(InMemoryJobRepository):
    """Inserts when the gate is open, and remembers what came, and what was inserted, together."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.came: list[int] = []
        self.together: list[int] = []
        self.outage = False

    def insert(self, jobs: Sequence[NewJob]) -> datetime:
        self.came.append(len(jobs))
        self.entered.set()
        assert self.gate.wait(10)
        if self.outage:
            raise DatabaseUnavailable("no answer")
        self.together.append(len(jobs))
        return super().insert(jobs)


def job() -> NewJob:
    return NewJob(id=new_id(), model="digits", version=1, rows=1, input=b"")


class RefusingRepository(InMemoryJobRepository):
    """Refuses one job, as Postgres refuses what it cannot hold."""

    def __init__(self, refused: NewJob) -> None:
        super().__init__()
        self._refused = refused

    def insert(self, jobs: Sequence[NewJob]) -> datetime:
        if self._refused in jobs:
            raise psycopg2.DataError("a NUL")
        return super().insert(jobs)


@pytest.fixture
def repository() -> GatedRepository:
    return GatedRepository()


@pytest.fixture
def commits(repository: GatedRepository) -> SharedCommits:
    return SharedCommits(repository, lambda jobs, enqueued_at: Push([]))


def waiting(commits: SharedCommits) -> int:
    return len(commits._waiting)


def test_those_who_come_during_a_commit_share_the_next(
    repository: GatedRepository, commits: SharedCommits
) -> None:
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(commits.add, job)
        assert repository.entered.wait(10)
        others = [threads.submit(commits.add, job) for _ in range(7)]
        wait_until(lambda: waiting(commits) == 7)
        repository.gate.set()
        for done in (first, *others):
            done.result(10)
    assert repository.together == [1, 7]


def test_a_lone_call_after_a_crowd_waits_for_nobody(
    repository: GatedRepository, commits: SharedCommits
) -> None:
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(commits.add, job)
        assert repository.entered.wait(10)
        crowd = [threads.submit(commits.add, job) for _ in range(2)]
        wait_until(lambda: waiting(commits) == 2)
        repository.gate.set()
        for done in (first, *crowd):
            done.result(10)
    commits.add(job)
    assert repository.together == [1, 2, 1]


def test_an_outage_is_told_to_each_and_the_next_begins_afresh(
    repository: GatedRepository, commits: SharedCommits
) -> None:
    repository.outage = True
    with ThreadPoolExecutor(4) as threads:
        added = [threads.submit(commits.add, job) for _ in range(4)]
        repository.gate.set()
        for done in added:
            with pytest.raises(DatabaseUnavailable):
                done.result(10)
    repository.outage = False
    commits.add(job)
    assert repository.together == [1]


def test_a_draft_that_fails_is_told_to_its_own_thread_and_the_others_are_stored(
    repository: GatedRepository, commits: SharedCommits
) -> None:
    def fails() -> NewJob:
        raise InvalidInput("no row")

    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(commits.add, job)
        assert repository.entered.wait(10)
        refused = threads.submit(commits.add, fails)
        wait_until(lambda: waiting(commits) == 1)
        others = [threads.submit(commits.add, job) for _ in range(2)]
        wait_until(lambda: waiting(commits) == 3)
        repository.gate.set()
        with pytest.raises(InvalidInput, match="no row"):
            refused.result(10)
        stored = {done.result(10).id for done in (first, *others)}
    assert repository.together == [1, 2]
    assert set(repository.get_many(list(stored))) == stored


def test_a_lone_draft_that_fails_stores_nothing_and_the_next_is_stored(
    repository: GatedRepository, commits: SharedCommits
) -> None:
    def fails() -> NewJob:
        raise InvalidInput("no row")

    repository.gate.set()
    with pytest.raises(InvalidInput, match="no row"):
        commits.add(fails)
    commits.add(job)
    assert repository.together == [1]


class LosingRepository(InMemoryJobRepository):
    """Crashes before it has written to disk, so many times; `keeps` what others saw by then, or loses it."""

    def __init__(self, *, crashes: int = 0, keeps: bool = True) -> None:
        super().__init__()
        self.crashes = crashes
        self.keeps = keeps
        self.steps: list[str] = []

    @contextmanager
    def storing(self) -> Iterator[Storing]:
        yield StoringAndLosing(self)

    def lose(self) -> None:
        if not self.keeps:
            self._rows.clear()


class StoringAndLosing(Storing):
    def __init__(self, repository: LosingRepository) -> None:
        self._repository = repository

    def insert(self, jobs: Sequence[NewJob]) -> datetime:
        self._repository.steps.append("inserted")
        return self._repository.insert(jobs)

    def sync(self) -> None:
        if self._repository.crashes:
            self._repository.crashes -= 1
            self._repository.lose()
            raise DatabaseUnavailable("no answer")
        self._repository.steps.append("on disk")


def pushing(repository: LosingRepository) -> SharedCommits:
    return SharedCommits(repository, lambda jobs, enqueued_at: Push(repository.steps))


def test_a_job_is_sent_before_it_is_on_disk_and_no_call_returns_before_both_have_answered() -> None:
    repository = LosingRepository()
    commits = pushing(repository)
    commits.add(job)
    commits.add_all([job(), job()])
    assert repository.steps == ["inserted", "sent", "on disk", "answered"] * 2


@pytest.mark.parametrize("add", [SharedCommits.add, lambda commits, draft: commits.add_all([job(), draft()])])
def test_a_job_that_postgres_refuses_is_invalid_input(add: Callable[[SharedCommits, Draft], object]) -> None:
    refused = job()
    commits = SharedCommits(RefusingRepository(refused), lambda jobs, enqueued_at: Push([]))
    with pytest.raises(InvalidInput, match="Postgres refuses the job: a NUL"):
        add(commits, lambda: refused)
    commits.add(job)


@pytest.mark.parametrize("add", [SharedCommits.add, lambda commits, draft: commits.add_all([draft()])])
def test_a_job_that_a_crash_has_undone_is_not_accepted(
    add: Callable[[SharedCommits, Draft], object],
) -> None:
    commits = pushing(LosingRepository(crashes=1, keeps=False))
    with pytest.raises(DatabaseUnavailable):
        add(commits, job)


def test_a_job_that_is_there_after_a_lost_answer_is_accepted_once_it_is_on_disk() -> None:
    repository = LosingRepository(crashes=1)
    pushing(repository).add(job)
    assert repository.steps == ["inserted", "sent", "sent", "on disk", "answered", "answered"]


def test_a_job_of_which_nobody_knows_whether_it_is_on_disk_is_not_accepted() -> None:
    with pytest.raises(DatabaseUnavailable):
        pushing(LosingRepository(crashes=2)).add(job)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """What a shell starts in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_thread_that_is_interrupted_leaves_the_others_their_turn(
    repository: GatedRepository, commits: SharedCommits
) -> None:
    def interrupt() -> None:
        wait_until(lambda: waiting(commits) == 1)
        signal.pthread_kill(main, signal.SIGINT)

    main, kept, given_up = threading.get_ident(), job(), job()
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(commits.add, job)
        assert repository.entered.wait(10)
        interrupted = threads.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            commits.add(lambda: given_up)
        interrupted.result(10)
        last = threads.submit(commits.add, lambda: kept)
        wait_until(lambda: waiting(commits) == 1)
        repository.gate.set()
        first.result(10)
        last.result(10)
    assert set(repository.get_many([kept.id, given_up.id])) == {kept.id}
