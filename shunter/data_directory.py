"""The directory of one local fleet: who runs there, and the settings that other shells need."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from shunter.embedded.directory import DirectoryLock, lock_directory
from shunter.embedded.errors import EmbeddedServiceError
from shunter.storage.errors import SettingsError

RECORD_FILE = "environment.json"
LOCK_FILE = "owner.lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the fleet of a directory told last; it outlives the fleet, whose ports then stay the same.

    `embedded` names the settings of the services that the fleet runs itself.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    embedded: tuple[str, ...] = ()
    ports: Mapping[str, int] = field(default_factory=dict)
    ready: bool = False


class DataDirectory:
    """Where a local fleet keeps everything."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()

    @property
    def logs(self) -> Path:
        """The logs of the fleet's processes."""
        return self.path / "logs"

    def hold(self) -> DirectoryLock:
        """Take the directory for this process; SettingsError if another one has it."""
        try:
            lock = lock_directory(self.path)
        except EmbeddedServiceError as error:
            raise SettingsError(str(error), field="data") from error
        self.logs.mkdir(exist_ok=True)
        return lock

    def write(self, record: Record) -> None:
        """Replace the record."""
        fresh = self.path / f"{RECORD_FILE}.new"
        # URLs may hold passwords.
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(record), file, indent=1)
        fresh.replace(self.path / RECORD_FILE)

    def read(self) -> Record:
        """The last record, an empty one if there is none."""
        try:
            document = json.loads((self.path / RECORD_FILE).read_text())
        except FileNotFoundError:
            return Record()
        return Record(**{**document, "embedded": tuple(document["embedded"])})

    def running(self) -> Mapping[str, str]:
        """The variables of the fleet that runs here; SettingsError if there is none."""
        if not self._is_held():
            raise SettingsError(
                f"no `shunter up` is running in {self.path}: start one with `shunter up --data {self.path}`, "
                "or name the directory of one that runs with --data",
                field="data",
            )
        record = self.read()
        if not record.ready:
            raise SettingsError(
                f"the `shunter up` in {self.path} is still starting: try again when it is ready", field="data"
            )
        return record.environment

    def _is_held(self) -> bool:
        try:
            with (self.path / LOCK_FILE).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False
