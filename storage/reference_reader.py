"""Reads the objects that rows refer to: below allowed prefixes only, and none above a size."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from stat import S_ISREG
from urllib.parse import unquote, urlsplit

from shunter.storage.errors import InvalidInput, NotFound, ObjectNotFound, ObjectStoreUnavailable, TooLarge
from shunter.storage.object_store import S3Access, S3ObjectStore

MAX_OBJECT_BYTES = 64 << 20
"""A larger object fails its row, unread."""

ACCESS = S3Access(read_timeout_s=20.0, attempts=2)
"""Other jobs wait meanwhile, and whoever asks tries again."""


class FetchRefused(InvalidInput):
    """A row refers to what it may not, or to nothing that can be."""

    code = "fetch_refused"


class FetchTooLarge(TooLarge):
    """A row refers to an object above the cap."""

    code = "fetch_too_large"


class FetchNotFound(NotFound):
    """A row refers to an object that is not there."""

    code = "fetch_not_found"


class ReferenceReader:
    """Reads objects below allowed prefixes, `s3://bucket/prefix` or `file:///directory`; from any thread."""

    def __init__(
        self, allowed: Sequence[str], *, s3: S3Access = ACCESS, most_bytes: int = MAX_OBJECT_BYTES
    ) -> None:
        self._allowed = tuple(allowed)
        self._s3 = s3
        self._most_bytes = most_bytes
        self._buckets: dict[str, S3ObjectStore] = {}

    def read(
        self, url: str, *, trusted: Sequence[str] = (), admit: Callable[[int], object] = lambda size: None
    ) -> bytes:
        """An object below one of the allowed or of the `trusted` prefixes.

        `admit` is told its size before it is read, more than once if reading fails, and may raise.
        Raises FetchRefused, FetchTooLarge, FetchNotFound, ObjectStoreUnavailable, SettingsError.
        """

        def check(size: int) -> None:
            if size > self._most_bytes:
                raise FetchTooLarge(
                    f"{url}: {size} bytes are more than the {self._most_bytes} that are fetched"
                )
            admit(size)

        allowed = (*self._allowed, *trusted)
        scheme = url.partition("://")[0]
        if scheme == "s3":
            return self._read_s3(url, allowed, check)
        if scheme == "file":
            return self._read_file(url, allowed, check)
        raise FetchRefused(f"{url!r:.300} is no s3:// or file:// URL")

    def _read_s3(self, url: str, allowed: Sequence[str], check: Callable[[int], None]) -> bytes:
        if not any(url.startswith(f"{prefix.rstrip('/')}/") for prefix in allowed):
            raise _outside(url, allowed)
        bucket, _, key = url.removeprefix("s3://").partition("/")
        if not {".", ".."}.isdisjoint(key.split("/")):
            # A name like any other to S3 itself, and to servers in front of files the way out.
            raise _outside(url, allowed)
        store = self._buckets.setdefault(bucket, S3ObjectStore(bucket, access=self._s3))
        try:
            return store.get_foreign(key, check)
        except ObjectNotFound as error:
            raise FetchNotFound(f"{url} does not exist") from error

    def _read_file(self, url: str, allowed: Sequence[str], check: Callable[[int], None]) -> bytes:
        try:
            path = _path(url).resolve()
            roots = [_path(prefix).resolve() for prefix in allowed if prefix.startswith("file://")]
            if not any(path.is_relative_to(root) for root in roots):
                raise _outside(url, allowed)
            # Without waiting for somebody who writes, should it be a pipe.
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                status = os.fstat(file.fileno())
                if not S_ISREG(status.st_mode):
                    raise FetchNotFound(f"{url} is no file")
                check(status.st_size)
                # What has been written to it meanwhile nobody has admitted.
                return file.read(status.st_size)
        except RuntimeError as error:
            raise FetchRefused(f"{url}: {error}") from error
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
            raise FetchNotFound(f"{url}: {error.strerror}") from error
        except (OSError, ValueError) as error:
            raise ObjectStoreUnavailable(f"{url}: {error}") from error


def _path(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))


def _outside(url: str, allowed: Sequence[str]) -> FetchRefused:
    return FetchRefused(
        f"{url:.300} lies outside of {', '.join(allowed) or 'everything allowed'}: "
        "name its prefix in SHUNTER_FETCH_FROM where workers run"
    )
