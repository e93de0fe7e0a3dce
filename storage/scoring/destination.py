"""Where a scoring's output goes: parts are staged aside, and the dataset appears when it is whole.

In a file system the staging directory stands beside the output, and becomes it by one rename. In S3 the
parts lie below the output, under a name that readers of datasets skip; the manifest is written last.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from uuid import UUID

from shunter.storage.errors import Conflict, ObjectNotFound, ObjectStoreUnavailable, SettingsError
from shunter.storage.object_store import ObjectStore
from shunter.storage.scoring.sources import absolute, is_s3, store_at

MANIFEST = "_shunter.json"
"""Written last; names every file of the dataset."""


ERRORS = "_errors"
"""The folder of the errors files."""


def part_name(number: int, suffix: str) -> str:
    """The file of a chunk's rows or errors: in the order of their names, files hold the rows in order."""
    return f"part-{number:06}.{suffix}"


class OutputExists(Conflict):
    """Something is where the output should go."""

    code = "output_exists"

    def __init__(self, place: str) -> None:
        super().__init__(
            f"{place} is there already: remove it or give another output; `shunter score --force` replaces it"
        )


class Destination(Protocol):
    """One scoring's output. Every method may be repeated after a kill."""

    @property
    def parts(self) -> str:
        """The object store, by URL, in which engines leave their parts."""

    def check_free(self) -> None:
        """OutputExists if anything is there, SettingsError if nothing can be written."""

    def take(self, key: str, name: str) -> None:
        """Make a part, if it is still among the parts, a file of the dataset."""

    def add(self, name: str, data: bytes) -> None:
        """Write a small file of the dataset."""

    def publish(self, manifest: bytes, names: Collection[str], *, replace: bool) -> None:
        """Let the dataset, which has files of these names, be seen; OutputExists unless it may replace."""

    def published(self) -> bytes | None:
        """The manifest that is there, if one is."""

    def discard(self) -> None:
        """Remove what was staged."""


def open_destination(output: str, scoring: UUID) -> Destination:
    """The output of a scoring; `output` is absolute."""
    return S3Destination(output, scoring) if is_s3(output) else FileDestination(Path(output), scoring)


def absolute_output(output: str) -> str:
    """A place for output as every process names it."""
    return absolute(output).rstrip("/")


class FileDestination:
    """Output in a file system that all workers share."""

    def __init__(self, output: Path, scoring: UUID) -> None:
        self._output = output
        self._staging = output.parent / f".{output.name}.{scoring}"
        self._parts = self._staging / "parts"
        self._dataset = self._staging / "dataset"

    @property
    def parts(self) -> str:
        return self._parts.as_uri()

    def check_free(self) -> None:
        with _file_errors():
            if self._output.exists() and (not self._output.is_dir() or any(self._output.iterdir())):
                raise OutputExists(str(self._output))
            self._output.parent.mkdir(parents=True, exist_ok=True)
            if not os.access(self._output.parent, os.W_OK):
                raise SettingsError(f"{self._output.parent} may not be written by this user", field="output")

    def take(self, key: str, name: str) -> None:
        with _file_errors():
            target = self._dataset / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                (self._parts / key).replace(target)
            except FileNotFoundError:
                if not target.exists():
                    raise

    def add(self, name: str, data: bytes) -> None:
        with _file_errors():
            target = self._dataset / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())

    def publish(self, manifest: bytes, names: Collection[str], *, replace: bool) -> None:
        if not replace:
            self.check_free()
        self.add(MANIFEST, manifest)
        with _file_errors():
            for folder in {self._dataset, *(path.parent for path in self._dataset.rglob("*"))}:
                _sync(folder)
            if replace and self._output.exists():
                aside = self._staging / "replaced"
                shutil.rmtree(aside, ignore_errors=True)
                self._output.rename(aside)
            self._dataset.rename(self._output)
            _sync(self._output.parent)

    def published(self) -> bytes | None:
        try:
            return (self._output / MANIFEST).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def discard(self) -> None:
        shutil.rmtree(self._staging, ignore_errors=True)


class S3Destination:
    """Output in a bucket."""

    def __init__(self, output: str, scoring: UUID) -> None:
        self._store = store_at(output)
        self._staging = f"_shunter-{scoring}"
        self._parts_store = store_at(self.parts)

    @property
    def parts(self) -> str:
        return f"{self._store.url}/{self._staging}"

    def check_free(self) -> None:
        if any(not _staged(key) for key in _keys(self._store)):
            raise OutputExists(self._store.url)

    def take(self, key: str, name: str) -> None:
        try:
            data = self._parts_store.get(key)
        except ObjectNotFound:
            if not any(info.key == name for info in self._store.list(name)):
                raise
            return
        self._store.put(name, data)
        self._parts_store.delete([key])

    def add(self, name: str, data: bytes) -> None:
        self._store.put(name, data)

    def publish(self, manifest: bytes, names: Collection[str], *, replace: bool) -> None:
        others = [key for key in _keys(self._store) if key not in {*names, MANIFEST} and not _staged(key)]
        if others and not replace:
            raise OutputExists(self._store.url)
        self._store.put(MANIFEST, manifest)
        self._store.delete(others)

    def published(self) -> bytes | None:
        try:
            return self._store.get(MANIFEST)
        except ObjectNotFound:
            return None

    def discard(self) -> None:
        self._parts_store.delete(list(_keys(self._parts_store)))


def _staged(key: str) -> bool:
    return key.startswith("_shunter-")


def _keys(store: ObjectStore) -> Iterable[str]:
    return (info.key for info in store.list(""))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _file_errors() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectNotFound(str(error.filename)) from error
    except PermissionError as error:
        raise SettingsError(f"{error.filename}: {error.strerror}", field="output") from error
    except OSError as error:
        raise ObjectStoreUnavailable(f"{error.filename}: {error.strerror}") from error
