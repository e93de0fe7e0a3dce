"""Publishes an author's models anew whenever their files change: what `shunter up --reload` serves.

The fleet serves copies, one version for each change, because what is published never changes: a job that
has begun ends on the version that it began on.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from watchfiles import watch

from shunter.storage.errors import ShunterError
from shunter.storage.model_config import FILE_NAME as SETTINGS_FILE
from shunter.storage.model_directories import folders, highest_version, versions_of
from shunter.storage.model_publishing import publish
from shunter.storage.model_registry import describe

Say = Callable[[str], None]
UnfinishedVersions = Callable[[str], set[int]]

KEPT = 2
"""The newest versions of a model stay: a client may not know for a moment that there is a newer one."""


class Reloader:
    """Compares the models of `source` with those in `served`, and publishes what differs.

    `unfinished` names the versions of a model that have jobs or scorings to run.
    """

    def __init__(self, source: Path, served: Path, *, say: Say, unfinished: UnfinishedVersions) -> None:
        self._source = source
        self._served = served
        self._say = say
        self._unfinished = unfinished
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        source.mkdir(parents=True, exist_ok=True)
        served.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Watch from now on, in a thread."""
        self._thread = threading.Thread(target=self._loop, name="reloader", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def publish_changed(self) -> list[str]:
        """Publish each model whose newest version differs from what is served; returns their names."""
        published = []
        for model in folders(self._source):
            try:
                if self._publish(model):
                    published.append(model.name)
            except (ShunterError, OSError, SyntaxError) as error:
                self._say(f"{model.name} is served as it was before: {error}")
        return published

    def _loop(self) -> None:
        for _ in watch(self._source, stop_event=self._stop, raise_interrupt=False):
            for name in self.publish_changed():
                self.retire(name)

    def _publish(self, model: Path) -> bool:
        newest = highest_version(model)
        if newest is None:
            return False
        served = self._served / model.name
        before = highest_version(served) if served.is_dir() else None
        if before is not None and describe(newest).digest == describe(before).digest:
            return False
        _compile(newest)
        _share_settings(model, served)
        version = publish(newest, self._served, model.name)
        self._say(f"{model.name} is published as version {version.version}")
        return True

    def retire(self, name: str) -> None:
        """Remove versions that no work needs any more: each costs its workers an engine."""
        try:
            needed = self._unfinished(name)
            for version in versions_of(self._served / name)[:-KEPT]:
                if int(version.name) not in needed:
                    shutil.rmtree(version)
        except ShunterError:
            return  # the fleet may still be starting: the next change is soon enough
        except OSError as error:
            self._say(f"old versions of {name} stay: {error}")


def _share_settings(model: Path, served: Path) -> None:
    """Take the settings of all versions over; versions that are being served do not read them again."""
    served.mkdir(exist_ok=True)
    if (model / SETTINGS_FILE).is_file():
        shutil.copy(model / SETTINGS_FILE, served / SETTINGS_FILE)
    else:
        (served / SETTINGS_FILE).unlink(missing_ok=True)


def _compile(version: Path) -> None:
    """Raise SyntaxError for Python files that cannot be read: a file may be saved half written."""
    for path in sorted(version.rglob("*.py")):
        compile(path.read_bytes(), str(path), "exec")
