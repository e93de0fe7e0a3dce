"""`shunter.local()`: a real small fleet in a temporary directory, for notebooks and tests."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from types import TracebackType

from shunter.producers.client import Client
from shunter.storage.errors import SettingsError

Models = str | PathLike[str] | Mapping[str, str | PathLike[str]]
"""A models directory; or by name a version's directory, or a `model.py`."""


def local(models: Models = "models", *, workers: int = 1, device: str = "cpu") -> TemporaryFleet:
    """A real small fleet of this machine: Postgres, Redis, API and workers in processes of their own.

    Everything lies in a temporary directory, which is removed at the end. It stops when the block ends, at
    the exit of the interpreter, and, by the kernel, when this process is killed.

    Args:
        models: a models directory, or by name a version's directory or a `model.py`.
        workers: how many to start.
        device: cpu, or cuda for every GPU of this machine in turn.

    Raises:
        SettingsError: there is no model, or it is not called in the main thread.
        Unavailable: something does not start; the message holds its last log lines.

    Example:
        >>> with shunter.local(models="models") as client:
        ...     client.submit("double", [1, 2]).outputs()
        [2, 4]
    """
    return TemporaryFleet(models, workers=workers, device=device)


class TemporaryFleet:
    """What `shunter.local` gives: use it with `with`, or `start` it in one cell and `stop` it in another."""

    def __init__(self, models: Models, *, workers: int, device: str) -> None:
        self._models = models
        self._workers = workers
        self._device = device
        self._undo = ExitStack()

    def start(self) -> Client:
        """Start everything, and return a client of it; in some seconds, or an error."""
        from shunter.local_fleet import FleetOptions, LocalFleet

        if threading.current_thread() is not threading.main_thread():
            raise SettingsError("start it in the main thread: what it starts ends with the thread")
        with ExitStack() as undo:
            directory = Path(tempfile.mkdtemp(prefix="shunter-"))
            undo.callback(shutil.rmtree, directory, ignore_errors=True)
            # Started by root, Postgres runs as another user, who must get through.
            directory.chmod(0o755)
            models = _gather(self._models, directory / "models")
            options = FleetOptions(
                data=directory / "data",
                models=models,
                port=0,
                flower=False,
                workers=self._workers,
                device=self._device,
            )
            fleet = undo.enter_context(LocalFleet(options))
            client = undo.enter_context(Client(settings=fleet.settings))
            self._undo = undo.pop_all()
        atexit.register(self.stop)
        return client

    def stop(self) -> None:
        """End every process and remove the directory; calling it twice is fine."""
        atexit.unregister(self.stop)
        self._undo.close()

    def __enter__(self) -> Client:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _gather(models: Models, place: Path) -> Path:
    """The models directory; one made of links to what was named, if they were named one by one."""
    if not isinstance(models, Mapping):
        return _checked(Path(models).expanduser().absolute(), "models")
    for name, given in models.items():
        source = Path(given).expanduser().absolute()
        version = place / name / "1"
        version.parent.mkdir(parents=True)
        if source.is_file():
            version.mkdir()
            (version / "model.py").symlink_to(source)
        else:
            version.symlink_to(_checked(source, name), target_is_directory=True)
    return place


def _checked(directory: Path, name: str) -> Path:
    if not directory.is_dir() or not any(directory.iterdir()):
        raise SettingsError(
            f"{name} is {directory}, and there is no model: `shunter models new NAME` writes one that runs",
            field="models",
        )
    return directory
