"""Where large blocks are kept: a directory or an S3 bucket, behind one small interface."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import unquote, urlsplit

from shunter.storage.errors import (
    DamagedObject,
    InvalidInput,
    ObjectNotFound,
    ObjectStoreUnavailable,
    SettingsError,
    ShunterError,
)
from shunter.storage.file_object_store import FileObjectStore
from shunter.storage.object_keys import (
    ObjectInfo,
    check_end,
    check_key,
    check_length,
    check_prefix,
    check_range,
    is_key,
)
from shunter.storage.signed_gets import SignedGets

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_s3 import S3Client

__all__ = ["FileObjectStore", "ObjectInfo", "ObjectStore", "S3Access", "S3ObjectStore", "open_object_store"]

DELETE_BATCH = 1000
"""As many keys as S3 takes in one request."""

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_SETTING = "SHUNTER_OBJECT_STORE"
_HELP = "use file:///absolute/directory or s3://bucket/prefix"
_TRY_AGAIN = {
    "BadDigest",
    "OperationAborted",
    "RequestTimeTooSkewed",
    "RequestTimeout",
    "SlowDown",
    "Throttling",
}

DIGEST = "shunter-md5"
"""The metadata of an S3 object that holds the digest of its bytes, in hexadecimal."""

READS_OF_DAMAGED = 2
"""What was damaged on its way comes whole the next time; what lies there damaged does not."""


class ObjectStore(Protocol):
    """What Shunter needs of an object store; safe to share between threads, and after a fork.

    Keys are segments of [A-Za-z0-9._=-] joined by `/`, none beginning with a dot; others raise InvalidInput.
    No key continues another (`a` and `a/b`): a file system cannot hold both.
    Every call may raise ObjectStoreUnavailable (try again later) and SettingsError (somebody must act).
    """

    @property
    def url(self) -> str:
        """Where it is, as `open_object_store` takes it; holds no secrets."""

    def put(self, key: str, data: bytes) -> None:
        """Write a whole object, durably, over an older one if there is one.

        No reader ever sees a part; while an object is replaced, some servers answer ObjectStoreUnavailable.
        """

    def get(self, key: str) -> bytes:
        """A whole object; ObjectNotFound, DamagedObject where the store keeps a digest."""

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Exactly `length` (1 or more) bytes from `start`; ObjectNotFound, InvalidInput beyond the end."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; missing ones are fine."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """The objects whose keys begin with `prefix`, which may end within a name; in no order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Access:
    """How to reach S3; what is None comes from the usual AWS variables, profile or instance role."""

    endpoint_url: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    region: str | None = None
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 60.0
    attempts: int = 4


def open_object_store(url: str, *, s3: S3Access | None = None) -> ObjectStore:
    """The store that a URL names, `file:///directory` or `s3://bucket/prefix`; SettingsError for any other.

    Connects to nothing and creates nothing; `s3` matters only to an s3 URL.
    """
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise SettingsError("an object store URL holds no credentials: set AWS_ACCESS_KEY_ID", field=_SETTING)
    if parts.scheme == "file" and not (parts.query or parts.fragment):
        path = unquote(parts.path)
        if parts.netloc in ("", "localhost") and path.strip("/") and "\0" not in path:
            return FileObjectStore(Path(path))
    if parts.scheme == "s3" and not (parts.query or parts.fragment):
        prefix = parts.path.strip("/")
        if _BUCKET.fullmatch(parts.netloc) and (not prefix or is_key(prefix)):
            return S3ObjectStore(parts.netloc, prefix, access=s3)
    raise SettingsError(f"object store {url!r} names no directory and no bucket: {_HELP}", field=_SETTING)


class S3ObjectStore:
    """Objects in an S3 bucket, or in anything that speaks its protocol."""

    def __init__(self, bucket: str, prefix: str = "", *, access: S3Access | None = None) -> None:
        self._bucket = bucket
        self._prefix = f"{check_key(prefix)}/" if prefix else ""
        self._access = access or S3Access()
        self._connected: _Connection | None = None

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def put(self, key: str, data: bytes) -> None:
        name, digest = self._name(key), hashlib.md5(data, usedforsecurity=False).digest()
        with self._errors(key):
            # The server refuses what was damaged on its way, and tells readers what to expect.
            self._client().put_object(
                Bucket=self._bucket,
                Key=name,
                Body=data,
                ContentMD5=base64.b64encode(digest).decode(),
                Metadata={DIGEST: digest.hex()},
            )

    def get(self, key: str) -> bytes:
        for _ in range(READS_OF_DAMAGED):
            data, told = self._read(key)
            if told is None or told == hashlib.md5(data, usedforsecurity=False).hexdigest():
                return data
        raise DamagedObject(self.url, key)

    def get_foreign(self, key: str, admit: Callable[[int], object]) -> bytes:
        """A whole object that somebody else has named; ObjectNotFound.

        `admit` is told the size before anything is read, more than once if reading fails, and may raise.
        """
        name = self._prefix + key
        with self._errors(key):
            data = self._connection().gets.get(name, admit)
            if data is not None:
                return data
            answer = self._client().get_object(Bucket=self._bucket, Key=name)
            with answer["Body"] as body:
                admit(size := answer["ContentLength"])
                return check_length(key, body.read(size), size)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        check_range(start, length)
        name, wanted = self._name(key), f"bytes={start}-{start + length - 1}"
        with self._errors(key):
            answer = self._client().get_object(Bucket=self._bucket, Key=name, Range=wanted)
            with answer["Body"] as body:
                _, _, size = answer.get("ContentRange", "").rpartition("/")
                if size.isdigit():
                    check_end(key, int(size), start, length)
                return check_length(key, body.read(), length)

    def delete(self, keys: Iterable[str]) -> None:
        names = (self._name(key) for key in keys)
        while batch := list(islice(names, DELETE_BATCH)):
            self._delete(batch)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        start = self._prefix + check_prefix(prefix)
        with self._errors(prefix):
            pages = self._client().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=start):
                for found in page.get("Contents", ()):
                    key = found["Key"].removeprefix(self._prefix)
                    yield ObjectInfo(key, found["Size"], found["LastModified"])

    def _read(self, key: str) -> tuple[bytes, str | None]:
        """An object and its digest, None if nobody has noted one."""
        name = self._name(key)
        with self._errors(key):
            answer = self._client().get_object(Bucket=self._bucket, Key=name)
            data = check_length(key, answer["Body"].read(), answer["ContentLength"])
        return data, answer["Metadata"].get(DIGEST)

    def _delete(self, names: Sequence[str]) -> None:
        with self._errors(names[0]):
            answer = self._client().delete_objects(
                Bucket=self._bucket, Delete={"Objects": [{"Key": name} for name in names], "Quiet": True}
            )
        for error in answer.get("Errors", ()):
            if error.get("Code") != "NoSuchKey":
                raise ObjectStoreUnavailable(f"{self.url}: delete {error.get('Key')}: {error.get('Message')}")

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _client(self) -> S3Client:
        return self._connection().client

    def _connection(self) -> _Connection:
        # No lock, which a fork could inherit locked: two threads at once make two clients, and one stays.
        connected = self._connected
        if connected is None or connected.pid != os.getpid():
            connected = self._connected = _connect(self._access)
        return connected

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        from botocore import exceptions as aws  # noqa: PLC0415 - loaded with boto3, only when S3 is used

        try:
            yield
        except aws.ClientError as error:
            raise self._meaning(error, key) from error
        except (
            aws.HTTPClientError,
            aws.ConnectionError,
            aws.IncompleteReadError,
            aws.CredentialRetrievalError,
            aws.MetadataRetrievalError,
        ) as error:
            raise ObjectStoreUnavailable(f"{self.url}: {error}") from error
        except aws.BotoCoreError as error:
            raise SettingsError(f"{self.url}: {error}: check the AWS_ variables", field=_SETTING) from error

    def _meaning(self, error: ClientError, key: str) -> ShunterError:
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code == "NoSuchBucket":
            return SettingsError(f"{self.url}: no such bucket: create it, or {_HELP}", field=_SETTING)
        if status == 404:
            return ObjectNotFound(key)
        if status == 416:
            return InvalidInput(f"object {key!r} ends before the range that was asked for; ask for less")
        if status >= 500 or status == 429 or code in _TRY_AGAIN:
            return ObjectStoreUnavailable(f"{self.url}: {error}")
        return SettingsError(
            f"{self.url}: refused ({status} {code}): check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, region, "
            "and that they may get, put, delete and list (without list, S3 answers 403 for a missing object)",
            field=_SETTING,
        )


@dataclass(frozen=True, slots=True)
class _Connection:
    pid: int
    client: S3Client
    gets: SignedGets


def _connect(access: S3Access) -> _Connection:
    import boto3  # noqa: PLC0415 - a quarter of a second, and only S3 needs it
    from botocore.config import Config  # noqa: PLC0415

    # A session of our own: boto3's default one is not safe between threads.
    session = boto3.session.Session(access.access_key, access.secret_key, region_name=access.region)

    def connect(style: Literal["path", "virtual"] | None) -> S3Client:
        config = Config(
            connect_timeout=access.connect_timeout_s,
            read_timeout=access.read_timeout_s,
            retries={"mode": "standard", "total_max_attempts": access.attempts},
            max_pool_connections=32,
            # Other servers than Amazon's fail the newer checksums on ranges and uploads.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3=None if style is None else {"addressing_style": style},
        )
        return session.client("s3", endpoint_url=access.endpoint_url, config=config)

    client = connect(None)
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    amazon = host.endswith((".amazonaws.com", ".amazonaws.com.cn"))
    # Elsewhere `bucket.host` seldom resolves; only the client knows which endpoint the environment names.
    if not amazon:
        client = connect("path")
    return _Connection(os.getpid(), client, SignedGets(session, client))
