"""What a submit does in its caller's thread, and what in that of whoever commits."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from shunter.in_memory import Shelf
from shunter.producers.shared_commits import ANSWERED, SupportsClose
from shunter.producers.submission import Accepted
from shunter.producers.submit import FEW_ROWS, Submitter
from shunter.storage.envelope import Envelope
from shunter.storage.errors import InvalidInput
from shunter.storage.model_config import ModelConfig
from shunter.storage.model_registry import RegisteredModel
from shunter.storage.results import INLINE_LIMIT_BYTES
from shunter.storage.signature import Signature, TensorSpec
from shunter.storage.testing import InMemoryObjectStore
from tests.unit.test_shared_commits import GatedRepository
from tests.waiting import wait_until

TAKES_TEXT = ModelConfig(signature=Signature({"text": TensorSpec("string")}))
LARGE = "x" * (INLINE_LIMIT_BYTES + 1)


class SlowStore(InMemoryObjectStore):
    """Takes an object once the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.entered = threading.Event()

    def put(self, key: str, data: bytes) -> None:
        self.entered.set()
        assert self.gate.wait(10)
        super().put(key, data)


class Publishing:
    """Pushes to nobody."""

    def publish(self, envelopes: Iterable[Envelope]) -> SupportsClose:
        return ANSWERED


@pytest.fixture
def repository() -> GatedRepository:
    return GatedRepository()


@pytest.fixture
def store() -> SlowStore:
    return SlowStore()


@pytest.fixture
def submitter(repository: GatedRepository, store: SlowStore) -> Submitter:
    models = Shelf([RegisteredModel("texts", 1, TAKES_TEXT, "abc")])
    return Submitter(repository=repository, registry=models, store=store, publisher=Publishing())


@contextmanager
def while_one_commits(
    repository: GatedRepository, submitter: Submitter
) -> Iterator[tuple[ThreadPoolExecutor, Future[Accepted]]]:
    """Threads for others, beside the one whose submit the gate holds up."""
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(submitter.submit, "texts", ["first"])
        assert repository.entered.wait(10)
        yield threads, first


def test_nobody_waits_while_a_large_input_is_written_to_the_object_store(
    repository: GatedRepository, store: SlowStore, submitter: Submitter
) -> None:
    with while_one_commits(repository, submitter) as (threads, first):
        crowd = [threads.submit(submitter.submit, "texts", [row]) for row in (LARGE, "small")]
        wait_until(lambda: len(submitter._commits._waiting) == 2)
        repository.gate.set()
        assert store.entered.wait(10)
        small = crowd[1].result(10)
        assert not crowd[0].done()
        store.gate.set()
        large = crowd[0].result(10)
        stored = repository.get_many([first.result(10).id, small.id, large.id])
    assert len(stored) == 3
    assert [object.key for object in store.list("inputs/") if str(large.id) in object.key]


def test_rows_that_do_not_fit_are_refused_to_their_caller_alone(
    repository: GatedRepository, submitter: Submitter
) -> None:
    with while_one_commits(repository, submitter) as (threads, first):
        bad, good = [threads.submit(submitter.submit, "texts", [row]) for row in (1, "good")]
        wait_until(lambda: len(submitter._commits._waiting) == 2)
        repository.gate.set()
        with pytest.raises(InvalidInput, match="row 0"):
            bad.result(10)
        assert set(repository.get_many([first.result(10).id, good.result(10).id]))


def test_a_job_of_many_rows_is_made_beside_those_who_commit_together(
    repository: GatedRepository, submitter: Submitter
) -> None:
    with while_one_commits(repository, submitter) as (threads, first):
        many = threads.submit(submitter.submit, "texts", ["row"] * (FEW_ROWS + 1))
        wait_until(lambda: len(repository.came) == 2)
        assert not submitter._commits._waiting
        repository.gate.set()
        stored = repository.get_many([first.result(10).id, many.result(10).id])
    assert sorted(job.rows for job in stored.values()) == [1, FEW_ROWS + 1]


def test_an_iterable_of_rows_is_read_by_its_own_thread(
    repository: GatedRepository, submitter: Submitter
) -> None:
    read_by = []

    def rows() -> Iterator[str]:
        read_by.append(threading.get_ident())
        yield "row"

    def submit() -> int:
        submitter.submit("texts", rows())
        return threading.get_ident()

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(submit)
        assert repository.entered.wait(10)
        second = threads.submit(submit)
        wait_until(lambda: len(submitter._commits._waiting) == 1)
        repository.gate.set()
        assert [first.result(10), second.result(10)] == read_by
