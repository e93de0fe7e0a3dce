"""One supervised server process: tethered to us, watched until it is ready, stopped in bounded time."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from shunter.embedded import tether
from shunter.embedded.directory import DirectoryLock
from shunter.embedded.errors import EmbeddedServiceError
from shunter.embedded.identity import OURSELVES, Identity

LOG_TAIL_LINES = 15
PROBE_EVERY_S = 0.02


@dataclass(frozen=True)
class Launch:
    """How one server is started, judged ready and stopped."""

    command: tuple[str, ...]
    directory: Path
    log_file: Path
    stop_signal: signal.Signals
    ready_within_s: float
    stop_within_s: float
    identity: Identity = OURSELVES


@dataclass(frozen=True)
class EmbeddedServer:
    """A running embedded service; leaving its `with` block stops it."""

    url: str
    port: int
    launch: Launch
    process: subprocess.Popen[bytes]
    lock: DirectoryLock

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log_file(self) -> Path:
        return self.launch.log_file

    def exit_code(self) -> int | None:
        """None while the server runs; a negative number is the signal that ended it."""
        return self.process.poll()

    def stop(self) -> None:
        """Stop the server cleanly, or kill it when that takes too long; calling it twice is fine."""
        stop_process(self.process, self.launch)
        self.lock.release()

    def __enter__(self) -> "EmbeddedServer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def run_until_ready(launch: Launch, is_ready: Callable[[int], bool]) -> subprocess.Popen[bytes]:
    """Start the server and wait until the probe, which is given the server's pid, says that it is ready."""
    # The kernel's death signal follows the thread that forked, not the whole process.
    if threading.current_thread() is not threading.main_thread():
        raise EmbeddedServiceError(
            "embedded services die with the thread that starts them: start them in the main thread"
        )
    process = _spawn(launch)
    with ExitStack() as undo:
        undo.callback(stop_process, process, launch)
        _wait_until_ready(process, launch, is_ready)
        undo.pop_all()
    return process


def tethered(
    command: Iterable[str], identity: Identity = OURSELVES, *, death_signal: signal.Signals
) -> list[str]:
    """The command as this identity, sent this signal when our process ends, however it ends."""
    arguments = (int(death_signal), os.getpid(), *(identity.user or (tether.KEEP, tether.KEEP)))
    leash = (sys.executable, "-I", "-S", tether.__file__, *map(str, arguments))
    return [*identity.wrapper, *leash, *command]


def stop_process(process: subprocess.Popen[bytes], launch: Launch) -> None:
    """Ask the process to end, and kill it when it does not in time."""
    if process.poll() is None:
        process.send_signal(launch.stop_signal)
    try:
        process.wait(launch.stop_within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def log_tail(log_file: Path) -> str:
    """The last lines of a log, for an error message."""
    lines = log_file.read_text(errors="replace").splitlines() if log_file.exists() else []
    return "\n".join(f"  | {line}" for line in lines[-LOG_TAIL_LINES:]) or "  | (empty)"


def keep_last_log(log_file: Path) -> None:
    """Begin a new log, and keep the one of the start before."""
    if log_file.exists():
        log_file.replace(log_file.with_suffix(".log.old"))


def _spawn(launch: Launch) -> subprocess.Popen[bytes]:
    with launch.log_file.open("ab") as log:
        return subprocess.Popen(
            tethered(launch.command, launch.identity, death_signal=launch.stop_signal),
            cwd=launch.directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C at the terminal is for the owner, who stops its servers last
        )


def _wait_until_ready(
    process: subprocess.Popen[bytes], launch: Launch, is_ready: Callable[[int], bool]
) -> None:
    deadline = time.monotonic() + launch.ready_within_s
    while not is_ready(process.pid):
        if time.monotonic() > deadline:
            raise EmbeddedServiceError(_failure(launch, f"was not ready after {launch.ready_within_s:.0f} s"))
        with suppress(subprocess.TimeoutExpired):
            code = process.wait(PROBE_EVERY_S)
            raise EmbeddedServiceError(_failure(launch, f"ended with code {code} before it was ready"))


def _failure(launch: Launch, what: str) -> str:
    return (
        f"{Path(launch.command[0]).name} {what}; its last log lines were\n{log_tail(launch.log_file)}\n"
        f"Mend what they name (the whole log is {launch.log_file}), or choose another directory or port."
    )
