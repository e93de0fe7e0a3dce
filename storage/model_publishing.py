"""Publishes a directory as a model's next version: complete, or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from shunter.storage.errors import Conflict, InvalidInput, ModelConfigError
from shunter.storage.model_config import FILE_NAME, read_toml
from shunter.storage.model_directories import MANIFEST, check_name, highest_version
from shunter.storage.model_registry import ModelVersion, describe, read_config

_UNPUBLISHED = (MANIFEST, "__pycache__")


def publish(source: Path, models: Path, name: str, *, version: int | None = None) -> ModelVersion:
    """Copy a version directory into `models` as the next version of `name`, or as `version`.

    It appears with all its files at once; a copy that was cut off stays behind under a name that nobody
    reads. Raises ModelConfigError for a source that is no model, Conflict for a version that exists or for
    settings that would change other versions, InvalidInput for what cannot be read or written.
    """
    check_name(name, source)
    read_config(source)
    target = models / name
    if version is not None and (target / str(version)).exists():
        raise _exists(target / str(version))
    shared = _shared_settings(source, target)
    try:
        models.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".publishing-", dir=models) as unfinished:
            copy = Path(unfinished) / "version"
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns(*_UNPUBLISHED))
            _write_manifest(copy)
            target.mkdir(exist_ok=True)
            if shared is not None:
                shutil.copy(shared, target / FILE_NAME)
            published = _put(copy, target, version)
            _sync(target)
    except OSError as error:
        # copytree gathers what went wrong with each file.
        raise InvalidInput(f"{source} cannot be published in {models}: {error}") from error
    return describe(published)


def _shared_settings(source: Path, target: Path) -> Path | None:
    """The model.toml above the source, if the target still needs it; Conflict if it has another one."""
    ours, theirs = source.parent / FILE_NAME, target / FILE_NAME
    if not ours.is_file() or read_toml(ours) == read_toml(theirs):
        return None
    if theirs.exists() or (target.is_dir() and highest_version(target)):
        raise Conflict(
            f"{ours} differs from {theirs}, which holds for every version there: make them the same, "
            f"or put what is new in {source / FILE_NAME}"
        )
    return ours


def _put(copy: Path, target: Path, version: int | None) -> Path:
    """Give the copy its name; another publisher may take a number while we look for one."""
    while True:
        newest = highest_version(target)
        place = target / str(version or (int(newest.name) + 1 if newest else 1))
        try:
            return copy.rename(place)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if version is not None:
                raise _exists(place) from error


def _write_manifest(copy: Path) -> None:
    """The digest of each file, which is on the disk by then; the manifest itself comes last."""
    lines = [f"{_digest(path)}  {path.relative_to(copy).as_posix()}\n" for path in _files(copy)]
    if not lines:
        raise ModelConfigError("the directory holds no files: put a model.py or an artifact there")
    manifest = copy / MANIFEST
    manifest.write_text("".join(lines))
    _sync(manifest)


def _files(directory: Path) -> Iterator[Path]:
    yield from (path for path in sorted(directory.rglob("*")) if path.is_file())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exists(place: Path) -> Conflict:
    return Conflict(f"{place} exists, and what is published never changes: leave --version out for the next")
