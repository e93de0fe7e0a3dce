"""A service's directory: who holds it, and what an earlier holder left running in it."""

import fcntl
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from shunter.embedded.errors import EmbeddedServiceError

PROC = Path("/proc")
LEFTOVER_STOP_S = 15.0  # for a clean stop; killed after that
LEFTOVER_KILL_S = 5.0
POLL_S = 0.02


@dataclass(frozen=True)
class DirectoryLock:
    """Held by the process that runs a service here; the kernel frees it when that process dies."""

    file: TextIO

    def release(self) -> None:
        self.file.close()


def lock_directory(directory: Path) -> DirectoryLock:
    """Make the directory and hold it, or refuse because another live process does."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = (directory / "owner.lock").open("a+")
    except OSError as error:
        raise EmbeddedServiceError(
            f"cannot use {directory} ({error}): choose a directory that you can write to"
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = _read_owner(file)
        file.close()
        raise EmbeddedServiceError(
            f"{directory} is in use by process {owner}: stop that one, or choose another directory"
        ) from error
    _write_owner(file)
    return DirectoryLock(file)


def stop_leftovers(directory: Path, programs: frozenset[str], stop_signal: signal.Signals) -> None:
    """Stop the servers that still run in a directory whose owner died; call it with the lock held."""
    if not _leftovers(directory, programs):
        return
    for number, patience_s in ((stop_signal, LEFTOVER_STOP_S), (signal.SIGKILL, LEFTOVER_KILL_S)):
        for pid in _leftovers(directory, programs):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if _becomes_true(lambda: not _leftovers(directory, programs), patience_s):
            return
    pids = _leftovers(directory, programs)
    raise EmbeddedServiceError(
        f"processes {pids} still run in {directory} and cannot be stopped: end them by hand"
    )


def _leftovers(directory: Path, programs: frozenset[str]) -> list[int]:
    """Processes with this name and this working directory; a pid file could name a stranger by now."""
    found = []
    for entry in PROC.glob("[0-9]*"):
        # A process may end while it is looked at, and other users' processes may not be looked at.
        with suppress(OSError):
            name = (entry / "comm").read_text().strip()
            if name in programs and (entry / "cwd").readlink() == directory.resolve():
                found.append(int(entry.name))
    return found


def _becomes_true(predicate: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _read_owner(file: TextIO) -> str:
    file.seek(0)
    return file.read().strip() or "unknown"


def _write_owner(file: TextIO) -> None:
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
