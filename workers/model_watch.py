"""Watches the models directory: what is published while a worker runs is served, what is removed is not."""

from __future__ import annotations

import difflib
import logging
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shunter.storage.errors import ModelConfigError, SettingsError, Unavailable
from shunter.storage.model_directories import version_directories
from shunter.storage.model_registry import ModelRegistry, ModelVersion, describe, scan
from shunter.workers.holdings import ModelKey

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class ModelsChanged:
    """The directory holds versions that it did not hold, and lacks others that it did."""

    added: tuple[ModelVersion, ...]
    removed: tuple[ModelKey, ...]


class ModelsDirectory:
    """What a worker serves of a directory; `names` limits it, none of them means every model.

    A look costs a listing and a stat for each file of the versions that are new: known ones are not read
    again, for a version that has been published does not change.
    """

    def __init__(self, directory: Path, names: Collection[str] = ()) -> None:
        self._directory = directory
        self._names = frozenset(names)
        self._known: set[ModelKey] = set()
        self._arriving: dict[Path, object] = {}
        self._refused: dict[Path, object] = {}

    def read(self) -> list[ModelVersion]:
        """All versions that are there; what is wrong with others is logged, and does not stop these.

        Raises SettingsError for a name that is not there, ModelConfigError if there is no directory.
        """
        found = scan(self._directory)
        for failure in found.failures:
            log.error("%s", failure)
        self._refuse_unknown({model.name for model in found.versions})
        versions = [model for model in found.versions if self._wants(model.name)]
        self._known = {(model.name, model.version) for model in versions}
        return versions

    def look(self) -> ModelsChanged | None:
        """What has changed since the last look; None if nothing has. Raises as `read` does."""
        present = {
            (path.parent.name, int(path.name)): path
            for path in version_directories(self._directory)
            if self._wants(path.parent.name)
        }
        removed = tuple(sorted(self._known - present.keys()))
        self._known.difference_update(removed)
        new = [path for key, path in sorted(present.items()) if key not in self._known]
        added = tuple(version for path in new if (version := self._arrived(path)) is not None)
        self._known.update((version.name, version.version) for version in added)
        return ModelsChanged(added, removed) if added or removed else None

    def _wants(self, name: str) -> bool:
        return not self._names or name in self._names

    def _arrived(self, path: Path) -> ModelVersion | None:
        """The version, once two looks found the same files: before, it may still be on its way."""
        print_of_files = _fingerprint(path)
        if self._refused.get(path) == print_of_files:
            return None
        if self._arriving.get(path) != print_of_files:
            self._arriving[path] = print_of_files
            return None
        del self._arriving[path]
        try:
            return describe(path)
        except (ModelConfigError, OSError) as error:
            log.error("%s", error)
            self._refused[path] = print_of_files
            return None

    def _refuse_unknown(self, known: Collection[str]) -> None:
        missing = sorted(self._names - set(known))
        if not missing:
            return
        near = [match for name in missing for match in difflib.get_close_matches(name, known, n=1)]
        there = f"there are {', '.join(sorted(known)) or 'none'}"
        hint = f"did you mean {', '.join(near)}?" if near else f"{there}; check --models and SHUNTER_MODELS"
        raise SettingsError(f"no model {', '.join(missing)} in {self._directory}: {hint}", field="--models")


class ModelWatch:
    """A thread that looks every LOOK_EVERY_S seconds, registers what is new, and tells the hub."""

    def __init__(
        self, directory: ModelsDirectory, registry: ModelRegistry, mailbox: Callable[[Any], None]
    ) -> None:
        self._directory = directory
        self._registry = registry
        self._mailbox = mailbox
        self._unregistered: list[ModelVersion] = []
        self._told: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="models", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()

    def _loop(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            try:
                self._look()
                self._told = None
            except (ModelConfigError, OSError, Unavailable) as error:
                # What is served stays: a directory that cannot be read is not an empty one.
                if str(error) != self._told:
                    log.warning("new models cannot be looked for: %s", error)
                self._told = str(error)

    def _look(self) -> None:
        changed = self._directory.look()
        if changed is not None:
            self._unregistered += changed.added
            if changed.removed:
                self._mailbox(ModelsChanged((), changed.removed))
        if self._unregistered:
            # Known to every host before it is served: producers ask for what stands in the table.
            self._registry.register(self._unregistered)
            self._mailbox(ModelsChanged(tuple(self._unregistered), ()))
            self._unregistered = []


def _fingerprint(path: Path) -> Sequence[tuple[str, int, int]]:
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    stats = [(file.relative_to(path).as_posix(), file.stat()) for file in files]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
