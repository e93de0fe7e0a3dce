"""Objects as files below one directory."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from shunter.storage.errors import InvalidInput, ObjectNotFound, ObjectStoreUnavailable, SettingsError
from shunter.storage.object_keys import (
    ObjectInfo,
    check_end,
    check_key,
    check_length,
    check_prefix,
    check_range,
)

STALE_S = 86_400
"""A file half written this long ago belongs to a process that was killed."""
PUBLISH_ATTEMPTS = 10


class FileObjectStore:
    """Objects as files, written aside, synced, and renamed into place.

    The file and its directory are synced, as Postgres syncs its commits: a committed row may name the object.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        # Inside the root, so that renaming stays within one file system.
        self._incoming = self._root / ".incoming"
        self._swept = False

    @property
    def url(self) -> str:
        return self._root.as_uri()

    def put(self, key: str, data: bytes) -> None:
        target = self._root / check_key(key)
        with _file_errors(key):
            _make_directory(self._incoming)
            self._sweep_once()
            temporary = self._write_aside(data)
            try:
                _publish(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)

    def get(self, key: str) -> bytes:
        with _file_errors(key), (self._root / check_key(key)).open("rb") as file:
            return check_length(key, file.read(), os.fstat(file.fileno()).st_size)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        check_range(start, length)
        with _file_errors(key), (self._root / check_key(key)).open("rb") as file:
            check_end(key, os.fstat(file.fileno()).st_size, start, length)
            file.seek(start)
            return check_length(key, file.read(length), length)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            path = self._root / check_key(key)
            with _file_errors(key), suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                path.unlink()
                self._prune(path.parent)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        top = self._root / check_prefix(prefix).rpartition("/")[0]
        with _file_errors(prefix):
            for folder, folders, names in os.walk(top, onerror=_raise_unless_gone):
                folders[:] = [name for name in folders if not name.startswith(".")]
                yield from self._infos(Path(folder), names, prefix)

    def _infos(self, folder: Path, names: Iterable[str], prefix: str) -> Iterator[ObjectInfo]:
        for name in names:
            key = (folder / name).relative_to(self._root).as_posix()
            if key.startswith(prefix) and not name.startswith("."):
                with suppress(FileNotFoundError):
                    status = (folder / name).stat()
                    yield ObjectInfo(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def _write_aside(self, data: bytes) -> Path:
        descriptor, name = tempfile.mkstemp(dir=self._incoming)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
        return Path(name)

    def _prune(self, folder: Path) -> None:
        with suppress(OSError):  # not empty, or gone already
            while folder != self._root:
                folder.rmdir()
                folder = folder.parent

    def _sweep_once(self) -> None:
        """Remove what killed writers left behind, at the first write of a process."""
        if self._swept:
            return
        self._swept = True
        for path in self._incoming.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - STALE_S:
                    path.unlink()


def _publish(temporary: Path, target: Path) -> None:
    for _ in range(PUBLISH_ATTEMPTS):
        # A concurrent delete may take the empty directory away again: then make it anew.
        with suppress(FileNotFoundError):
            try:
                _make_directory(target.parent)
                _rename(temporary, target)
            except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
                raise InvalidInput(f"{target}: one key may not continue another: use another") from error
            return
    raise ObjectStoreUnavailable(f"{target.parent} is removed as often as it is made: try again")


def _rename(temporary: Path, target: Path) -> None:
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        temporary.replace(target)
        os.fsync(directory)
    finally:
        os.close(directory)


def _make_directory(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_directory(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError:
        # Not `exist_ok`, which reports a folder made and pruned by others meanwhile as a file.
        if folder.is_file():
            raise
    parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


@contextmanager
def _file_errors(key: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise ObjectNotFound(key) from error
    except (PermissionError, FileExistsError) as error:
        raise SettingsError(
            f"object store: {error}: it must be a directory that this user may write"
        ) from error
    except OSError as error:
        raise ObjectStoreUnavailable(f"object store: {error}") from error
