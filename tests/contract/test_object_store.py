"""One suite for every object store."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from shunter.storage.errors import InvalidInput, ObjectNotFound, ObjectStoreUnavailable
from shunter.storage.object_store import FileObjectStore, ObjectStore, S3ObjectStore
from shunter.storage.testing import InMemoryObjectStore
from tests.object_store_servers import BUCKET

BAD_KEYS = [
    "",
    "/",
    "/etc/passwd",
    "a/../b",
    "..",
    ".",
    "a//b",
    "a/",
    ".hidden",
    "a/.tmp",
    "a\0b",
    "a b",
    "ä",
]
BAD_KEYS += ["a\n", "a\\b", "a" * 201, "a/" * 401 + "a"]

_prefixes = count(1)


@pytest.fixture(params=["file", "memory", "moto", "rclone"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "file":
        return FileObjectStore(tmp_path / "objects")
    if request.param == "memory":
        return InMemoryObjectStore()
    access = request.getfixturevalue(request.param)
    return S3ObjectStore(BUCKET, f"test-{next(_prefixes)}", access=access)


def test_what_was_put_comes_back(store: ObjectStore) -> None:
    data = bytes(range(256)) * 4096
    store.put("outputs/20261121/a_b-c=d.bin", data)
    assert store.get("outputs/20261121/a_b-c=d.bin") == data


def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    store.put("empty", b"")
    assert store.get("empty") == b""


def test_a_second_put_overwrites(store: ObjectStore) -> None:
    store.put("a/b", b"longer than the second")
    store.put("a/b", b"second")
    assert store.get("a/b") == b"second"
    assert [info.size for info in store.list("a/")] == [6]


@pytest.mark.parametrize("key", ["nothing", "nothing/below", "there/below", "there/x"])
def test_a_missing_object_is_named(store: ObjectStore, key: str) -> None:
    store.put("there/x/y", b"1")
    store.put("there/z", b"1")
    with pytest.raises(ObjectNotFound, match=key):
        store.get(key)
    with pytest.raises(ObjectNotFound, match=key):
        store.get_range(key, 0, 1)


def test_ranges_are_exact(store: ObjectStore) -> None:
    store.put("a", b"0123456789")
    assert store.get_range("a", 0, 1) == b"0"
    assert store.get_range("a", 3, 4) == b"3456"
    assert store.get_range("a", 0, 10) == b"0123456789"


@pytest.mark.parametrize(("start", "length"), [(0, 11), (9, 2), (10, 1), (500, 1), (-1, 2), (0, 0), (3, -1)])
def test_ranges_beyond_the_object_are_refused(store: ObjectStore, start: int, length: int) -> None:
    store.put("a", b"0123456789")
    with pytest.raises(InvalidInput):
        store.get_range("a", start, length)


def test_deleted_objects_are_gone_and_missing_ones_are_fine(store: ObjectStore) -> None:
    store.put("a/1", b"1")
    store.put("a/2", b"2")
    store.delete(["a/1", "a/none", "none"])
    assert [info.key for info in store.list("")] == ["a/2"]
    store.delete([])
    store.delete(iter(["a/1", "a/2"]))
    assert list(store.list("")) == []


def test_more_objects_than_one_request_takes_are_listed_and_deleted(store: ObjectStore) -> None:
    keys = [f"many/{index % 3}/{index}" for index in range(1005)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key: store.put(key, b"x"), keys))
    assert sorted(info.key for info in store.list("many/")) == sorted(keys)
    store.delete(keys)
    assert list(store.list("many/")) == []


def test_a_prefix_may_end_within_a_name(store: ObjectStore) -> None:
    for key in ("day/20261120/a", "day/20261121/b", "day/20261121x", "days/c", "other"):
        store.put(key, b"1")
    assert _keys(store, "day/2026112") == ["day/20261120/a", "day/20261121/b", "day/20261121x"]
    assert _keys(store, "day/20261121/") == ["day/20261121/b"]
    assert _keys(store, "day") == ["day/20261120/a", "day/20261121/b", "day/20261121x", "days/c"]
    assert _keys(store, "other/") == []
    assert _keys(store, "none/at/all") == []
    assert len(_keys(store, "")) == 5


def test_listing_tells_size_and_time(store: ObjectStore) -> None:
    store.put("a", b"123")
    (info,) = store.list("a")
    assert info.size == 3
    assert abs(info.modified - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.parametrize("key", BAD_KEYS)
def test_other_keys_are_refused(store: ObjectStore, key: str) -> None:
    with pytest.raises(InvalidInput):
        store.put(key, b"1")
    with pytest.raises(InvalidInput):
        store.get(key)
    with pytest.raises(InvalidInput):
        store.delete([key])


@pytest.mark.parametrize("prefix", ["/", "..", "a/../", "a//", ".incoming", "a b"])
def test_prefixes_that_no_key_has_are_refused(store: ObjectStore, prefix: str) -> None:
    with pytest.raises(InvalidInput):
        list(store.list(prefix))


def test_readers_never_see_a_part(store: ObjectStore) -> None:
    sizes = (1, 200_000, 400_000)
    store.put("contended", b"0" * sizes[0])
    with ThreadPoolExecutor(4) as threads:
        reading = [threads.submit(_get_if_available, store, "contended") for _ in range(40)]
        for turn in range(10):
            store.put("contended", b"%d" % turn * sizes[turn % 3])
    for data in (read.result() for read in reading):
        assert data is None or (len(data) in sizes and len(set(data)) == 1)
    assert store.get("contended") == b"9"


def _get_if_available(store: ObjectStore, key: str) -> bytes | None:
    """None when the server said that it could not: rclone cuts a reply short while the object is replaced."""
    try:
        return store.get(key)
    except ObjectStoreUnavailable:
        return None


def test_writers_and_deleters_of_one_folder_do_not_meet(store: ObjectStore) -> None:
    # rclone removes an empty folder under a put's feet, and answers 500: its folder is never empty here.
    store.put("shared/folder/keeper", b"")

    def put_and_delete(number: int) -> None:
        for turn in range(10):
            store.put(f"shared/folder/{number}-{turn}", b"1")
            assert store.get(f"shared/folder/{number}-{turn}") == b"1"
            store.delete([f"shared/folder/{number}-{turn}"])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(put_and_delete, range(4)))
    assert _keys(store, "") == ["shared/folder/keeper"]


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_store_works_on_in_a_forked_child(store: ObjectStore) -> None:
    store.put("parent", b"before")
    child = multiprocessing.get_context("fork").Process(target=_use_in_child, args=(store,))
    child.start()
    assert store.get("parent") == b"before"
    child.join(30)
    assert child.exitcode == 0


def _use_in_child(store: ObjectStore) -> None:
    assert store.get("parent") == b"before"
    store.put("child", b"during")
    assert store.get("child") == b"during"


def _keys(store: ObjectStore, prefix: str) -> list[str]:
    return sorted(info.key for info in store.list(prefix))
