"""The files of a scoring's input: found by path, glob or `s3://` prefix, and opened only if unchanged."""

from __future__ import annotations

import fnmatch
import glob
import io
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from shunter.storage.errors import InvalidInput, NotFound, ObjectNotFound
from shunter.storage.object_store import ObjectStore, open_object_store

_WILDCARD = re.compile(r"[*?\[]")
STAGED = "scoring-inputs"
"""The folder of an object store in which rows from Python, queries and listings are staged."""

FOR_TABLES = "scoring-tables"
"""The folder in which datasets lie that went into a table."""

READ_AHEAD_BYTES = 1 << 20
"""Least that one request to S3 asks for."""


class InputChanged(InvalidInput):
    """A file of the input is not what it was when the scoring began."""

    code = "input_changed"


@dataclass(frozen=True, slots=True)
class Source:
    """One file: an absolute path or an s3 URL, its size in bytes, and a tag that changes with its content."""

    url: str
    size: int
    tag: str

    def document(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


@lru_cache(maxsize=64)
def store_at(url: str) -> ObjectStore:
    """The object store of a URL; connecting to S3 takes far longer than reading a chunk, so it is kept."""
    return open_object_store(url)


def is_s3(url: str) -> bool:
    """Whether a place is in S3, rather than in the file system."""
    return url.startswith("s3://")


def absolute(url: str) -> str:
    """A place as every process of the fleet names it."""
    if is_s3(url):
        return url
    path = unquote(urlsplit(url).path) if url.startswith("file://") else url
    return str(Path(path).expanduser().absolute())


def find_sources(pattern: str) -> list[Source]:
    """The files that a path, a directory, a glob or an s3 URL names, in the order of their names.

    Names that begin with a dot or an underscore are nobody's data. Raises NotFound, InvalidInput.
    """
    place = absolute(pattern)
    sources = _find_s3(place) if is_s3(place) else _find_files(place)
    if not sources:
        raise NotFound(f"no file is at {pattern}: check the path, and that this host and the workers see it")
    return sources


def open_source(source: Source) -> BinaryIO:
    """A file open for reading at any place; InputChanged if it is another one by now, NotFound."""
    if is_s3(source.url):
        bucket, key = _split_s3(source.url)
        store = store_at(f"s3://{bucket}")
        found = next((info for info in store.list(key) if info.key == key), None)
        if found is None:
            raise ObjectNotFound(source.url)
        _check_unchanged(source, found.size, found.modified.isoformat())
        return io.BufferedReader(_Ranges(store, key, source.size), READ_AHEAD_BYTES)
    try:
        file = Path(source.url).open("rb")  # noqa: SIM115 - the caller closes it
    except OSError as error:
        raise NotFound(f"{source.url}: {error.strerror}: the hosts of the workers must see it too") from error
    status = os.fstat(file.fileno())
    try:
        _check_unchanged(source, status.st_size, str(status.st_mtime_ns))
    except InputChanged:
        file.close()
        raise
    return file


def changes(before: Sequence[Source], after: Sequence[Source], *, most: int = 3) -> str:
    """What differs between two lists of files, in words."""
    old, new = ({source.url: source for source in sources} for sources in (before, after))
    found = [
        *(f"{url} is new" for url in new if url not in old),
        *(f"{url} is gone" for url in old if url not in new),
        *(f"{url} has changed" for url in new if url in old and old[url] != new[url]),
    ]
    more = f", and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more


def _check_unchanged(source: Source, size: int, tag: str) -> None:
    if (size, tag) != (source.size, source.tag):
        raise InputChanged(f"{source.url} has changed since the scoring began: score it anew with --force")


def _find_files(place: str) -> list[Source]:
    if _WILDCARD.search(place) and not Path(place).exists():
        paths = [Path(name) for name in glob.iglob(place, recursive=True)]
    elif Path(place).is_dir():
        paths = [path for path in Path(place).rglob("*") if not _hidden(path.relative_to(place).parts)]
    else:
        paths = [Path(place)]
    return [_stat(path) for path in sorted(paths) if path.is_file()]


def _hidden(parts: Sequence[str]) -> bool:
    return any(part[0] in "._" for part in parts)


def _stat(path: Path) -> Source:
    try:
        status = path.stat()
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}", field="input") from error
    if not os.access(path, os.R_OK):
        raise InvalidInput(f"{path} may not be read by this user: mend its permissions", field="input")
    return Source(str(path), status.st_size, str(status.st_mtime_ns))


def _find_s3(place: str) -> list[Source]:
    bucket, pattern = _split_s3(place)
    wildcard = _WILDCARD.search(pattern)
    prefix = pattern[: wildcard.start()] if wildcard else pattern
    found = []
    for info in store_at(f"s3://{bucket}").list(prefix):
        below = info.key[len(prefix) :].split("/")
        wanted = fnmatch.fnmatchcase(info.key, pattern) if wildcard else _is_under(info.key, pattern)
        if wanted and info.size and not _hidden([part for part in below if part]):
            found.append(Source(f"s3://{bucket}/{info.key}", info.size, info.modified.isoformat()))
    return sorted(found, key=lambda source: source.url)


def _is_under(key: str, prefix: str) -> bool:
    return key == prefix or key.startswith(prefix if prefix.endswith("/") or not prefix else f"{prefix}/")


def _split_s3(url: str) -> tuple[str, str]:
    parts = urlsplit(url, allow_fragments=False)
    if not parts.netloc:
        raise InvalidInput(f"{url!r} names no bucket: use s3://bucket/prefix", field="input")
    # Not parts.path alone: a question mark is a wildcard here.
    return parts.netloc, url.removeprefix(f"s3://{parts.netloc}").lstrip("/")


class _Ranges(io.RawIOBase):
    """An object as a file that is read where one looks."""

    def __init__(self, store: ObjectStore, key: str, size: int) -> None:
        self._store = store
        self._key = key
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._size - self._position)
        if length <= 0:
            return 0
        buffer[:length] = self._store.get_range(self._key, self._position, length)
        self._position += length
        return length
