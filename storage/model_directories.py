"""Where model versions lie: `<models>/<name>/<version>/`, and which names count."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from shunter.storage.errors import ModelConfigError

MANIFEST = "manifest.sha256"
"""Every other file of a published version with its digest, in the form that `sha256sum -c` reads."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


def version_directories(models_directory: Path) -> list[Path]:
    """Every `<name>/<version>/` below a directory, unread; raises ModelConfigError if it cannot be listed."""
    found: list[Path] = []
    for directory in folders(models_directory):
        # One with a wrong name, or empty, is for `scan` to tell of.
        with suppress(ModelConfigError):
            found += versions_of(directory)
    return found


def check_name(name: str, place: Path) -> None:
    """Raise ModelConfigError, telling of `place`, for what cannot be a model's name."""
    if not _NAME.fullmatch(name):
        raise ModelConfigError(
            f"{place}: {name!r} cannot be a model's name: use letters, digits, - and _, "
            "beginning with a letter or digit, at most 63"
        )


def version_directory(directory: Path) -> Path:
    """The version that a directory is, or the highest that it holds; raises ModelConfigError."""
    directory = directory.resolve()
    if not directory.is_dir():
        raise ModelConfigError(f"{directory} is no directory: give a model's, or one of its versions'")
    if _VERSION.fullmatch(directory.name):
        return directory
    return highest_version(directory) or directory


def highest_version(model_directory: Path) -> Path | None:
    """A model's newest version, unread; None if the directory holds none. Raises ModelConfigError."""
    versions = [entry for entry in folders(model_directory) if _VERSION.fullmatch(entry.name)]
    return max(versions, key=lambda entry: int(entry.name), default=None)


def folders(directory: Path) -> list[Path]:
    """The directories in one, but for hidden ones; raises ModelConfigError if it cannot be listed."""
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        raise ModelConfigError(
            f"{directory}: {error.strerror}: set SHUNTER_MODELS to the models directory"
        ) from error
    return [entry for entry in entries if entry.is_dir() and entry.name[0] not in "._"]


def versions_of(directory: Path) -> list[Path]:
    """The versions of a model's directory, rising; ModelConfigError for a bad name, and if there are none."""
    check_name(directory.name, directory)
    found = [entry for entry in folders(directory) if _VERSION.fullmatch(entry.name)]
    if not found:
        raise ModelConfigError(f"{directory}: holds no version: put the model's files in {directory.name}/1/")
    return sorted(found, key=lambda entry: int(entry.name))
