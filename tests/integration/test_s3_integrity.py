"""Bytes that were damaged between us and S3 are neither stored nor handed out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from shunter.storage.errors import ObjectStoreUnavailable
from shunter.storage.object_store import S3ObjectStore
from tests.faults.faulty_s3 import FaultyS3
from tests.object_store_servers import BUCKET, moto_server

BYTES = b"0123456789" * 1000


@pytest.fixture
def s3() -> Iterator[tuple[FaultyS3, S3ObjectStore]]:
    with moto_server() as access, FaultyS3(access.endpoint_url or "") as faulty:
        yield faulty, S3ObjectStore(BUCKET, access=replace(access, endpoint_url=faulty.url, attempts=1))


def test_an_object_that_comes_damaged_is_to_be_read_again(s3: tuple[FaultyS3, S3ObjectStore]) -> None:
    faulty, store = s3
    store.put("whole", BYTES)
    faulty.strike("damaged", ("GET", "/whole"))
    with pytest.raises(ObjectStoreUnavailable, match="came damaged"):
        store.get("whole")
    faulty.heal()
    assert store.get("whole") == BYTES


def test_an_object_that_was_damaged_on_its_way_is_not_stored(s3: tuple[FaultyS3, S3ObjectStore]) -> None:
    faulty, store = s3
    store.put("kept", BYTES)
    faulty.strike("damaged", ("PUT", "/kept"))
    with pytest.raises(ObjectStoreUnavailable):
        store.put("kept", BYTES[::-1])
    faulty.heal()
    assert store.get("kept") == BYTES
