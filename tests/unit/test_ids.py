"""Ids rise with time, within a process and across forks."""

import multiprocessing
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from uuid import RFC_4122, UUID, uuid4

import pytest

from shunter.storage import ids
from shunter.storage.errors import InvalidInput
from shunter.storage.ids import created_at, item_id, new_id, new_ids, parse_item_id, read_uuid, uuid_of


def test_an_id_is_a_uuid_of_version_7() -> None:
    made = new_id()
    assert (made.version, made.variant) == (7, RFC_4122)
    assert UUID(str(made)) == made


def test_an_id_made_of_its_number_is_like_any_other() -> None:
    known = uuid4()
    made = uuid_of(known.int)
    assert made == known
    assert (hash(made), str(made), made.bytes) == (hash(known), str(known), known.bytes)
    assert pickle.loads(pickle.dumps(made)) == known


def test_an_id_tells_when_it_was_made() -> None:
    assert abs(created_at(new_id()) - datetime.now(UTC)) < timedelta(seconds=1)
    assert created_at(UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")) == datetime(
        2022, 2, 22, 19, 22, 22, tzinfo=UTC
    )


def test_another_kind_of_uuid_has_no_time() -> None:
    with pytest.raises(InvalidInput, match="version 7"):
        created_at(uuid4())


def test_ids_rise_one_by_one_and_in_bulk() -> None:
    made = [new_id() for _ in range(2000)] + new_ids(20_000) + [new_id()] + new_ids(0) + new_ids(3)
    assert made == sorted(set(made))
    assert [str(id) for id in made] == sorted(str(id) for id in made)


def test_ids_of_many_threads_differ_and_rise_in_each() -> None:
    with ThreadPoolExecutor(8) as threads:
        lists = list(threads.map(lambda _: [new_id() for _ in range(500)] + new_ids(500), range(8)))
    assert all(made == sorted(made) for made in lists)
    assert len({id for made in lists for id in made}) == 8000


def test_ids_rise_when_the_clock_steps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = new_id()
    yesterday = time.time_ns() - 86_400 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: yesterday)
    assert before < new_id() < new_id()


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_makes_ids_of_its_own() -> None:
    new_ids(10)
    fork = multiprocessing.get_context("fork")
    pipes = [fork.Pipe(duplex=False) for _ in range(3)]
    children = [fork.Process(target=_send_ids, args=(sender,)) for _, sender in pipes]
    with ids._sequence._lock:  # what another thread of the parent may hold at the fork
        for child in children:
            child.start()
    made = new_ids(1000)
    for receiver, _ in pipes:
        made += receiver.recv()
    for child in children:
        child.join()
    assert len(set(made)) == 4000


def _send_ids(sender: Connection) -> None:
    sender.send(new_ids(1000))


def test_item_ids_are_read_back() -> None:
    job = new_id()
    assert parse_item_id(item_id(job, 0)) == (job, 0)
    assert parse_item_id(item_id(job, 255)) == (job, 255)
    assert parse_item_id(str(job)) == (job, None)
    assert parse_item_id(str(job).upper()) == (job, None)


@pytest.mark.parametrize(
    "tail", [".", ".-1", ".01", ".1.2", ".x", " ", "\n", ".1\n", ".1234567890", ".²", "/1"]
)
def test_other_texts_are_no_ids(tail: str) -> None:
    with pytest.raises(InvalidInput, match="as it was returned"):
        parse_item_id(f"{new_id()}{tail}")


@pytest.mark.parametrize(
    "text", ["", "1", "{019a9b6e-0e00-7000-8000-000000000000}", "019a9b6e0e0070008000000000000000"]
)
def test_other_spellings_of_a_uuid_are_no_ids(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_item_id(text)


@pytest.mark.parametrize("spelling", ["{}", "{{{}}}", "urn:uuid:{}"])
def test_a_uuid_is_read_in_every_spelling_that_uuid_takes(spelling: str) -> None:
    known = uuid4()
    for text in (str(known), str(known).upper(), known.hex):
        assert read_uuid(spelling.format(text)) == UUID(spelling.format(text)) == known


@pytest.mark.parametrize(
    "text", ["", "task-17", "0" * 31, "0" * 33, "0d47de42-07b5-46aa-9de4-5afb27993133\n", "-" * 36]
)
def test_what_is_no_uuid_is_not_read_as_one(text: str) -> None:
    with pytest.raises(ValueError, match="badly formed"):
        read_uuid(text)
