"""Objects come by requests of our own once the client has shown how, and by the client when those fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import boto3
import botocore
import pytest
from botocore.config import Config

from shunter.storage.errors import ObjectNotFound, ObjectStoreUnavailable, TooLarge
from shunter.storage.object_store import S3Access, S3ObjectStore
from shunter.storage.signed_gets import SignedGets
from tests.faults.faulty_s3 import FaultyS3
from tests.object_store_servers import BUCKET

NAMES = ["a", "a b&c+d/ü~é.png", "what#%41=!*'()", "x?y", "-._~"]


@pytest.fixture(params=["moto", "rclone"])
def access(request: pytest.FixtureRequest) -> S3Access:
    found: S3Access = request.getfixturevalue(request.param)
    return found


def opened(access: S3Access, **config: Any) -> tuple[Any, SignedGets]:
    """A client, and what learns from it."""
    session = boto3.session.Session(access.access_key, access.secret_key, region_name=access.region)
    how = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, **config)
    client = session.client("s3", endpoint_url=access.endpoint_url, config=how)
    return client, SignedGets(session, client)


def any_size(size: int) -> None:
    pass


def test_objects_of_any_name_come_as_the_client_gets_them(access: S3Access) -> None:
    client, gets = opened(access)
    for number, name in enumerate(NAMES):
        client.put_object(Bucket=BUCKET, Key=name, Body=b"%d" % number * number)
    assert gets.get("a", any_size) is None
    # The client tells of the way, whatever the name of the object that it got.
    client.get_object(Bucket=BUCKET, Key=NAMES[1])["Body"].close()
    by_client: list[object] = []
    client.meta.events.register("before-call.s3.GetObject", lambda **_: by_client.append(1))
    assert [gets.get(name, any_size) for name in NAMES] == [b"%d" % n * n for n in range(len(NAMES))]
    assert not by_client
    assert gets.get("missing", any_size) is None
    assert gets.get("", any_size) is None


def test_nothing_is_read_that_is_not_admitted(moto: S3Access) -> None:
    store = S3ObjectStore(BUCKET, access=moto)
    store.put("large", bytes(1000))
    sizes: list[int] = []

    def refuse(size: int) -> None:
        sizes.append(size)
        raise TooLarge(f"{size}")

    for _ in range(2):
        with pytest.raises(TooLarge):
            store.get_foreign("large", refuse)
        assert store.get_foreign("large", any_size) == bytes(1000)
    assert sizes == [1000, 1000]


@pytest.mark.parametrize("fault", ["error", "cut"])
def test_what_goes_wrong_is_left_to_the_client(moto: S3Access, fault: str) -> None:
    with FaultyS3(moto.endpoint_url or "") as faulty:
        store = S3ObjectStore(BUCKET, access=replace(moto, endpoint_url=faulty.url, attempts=1))
        store.put("there", b"0123456789")
        store.put("there-too", b"")
        assert store.get_foreign("there", any_size) == b"0123456789"
        faulty.strike(fault, ("GET", "/there"))
        for name in ("there", "there-too"):
            faulty.struck.clear()
            with pytest.raises(ObjectStoreUnavailable):
                store.get_foreign(name, any_size)
            assert faulty.struck[fault] == 2
        with pytest.raises(ObjectNotFound):
            store.get_foreign("not-there", any_size)
        faulty.heal()
        assert store.get_foreign("there", any_size) == b"0123456789"


def test_a_client_that_signs_otherwise_or_not_at_all_is_asked_itself(moto: S3Access) -> None:
    opened(moto)[0].put_object(Bucket=BUCKET, Key="open", Body=b"x", ACL="public-read")
    for version in (botocore.UNSIGNED, "s3"):
        client, gets = opened(moto, signature_version=version)
        client.get_object(Bucket=BUCKET, Key="open")["Body"].close()
        assert gets.get("open", any_size) is None
