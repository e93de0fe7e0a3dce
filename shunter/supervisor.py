"""Keeps child processes running: starts them, shows what goes wrong in their logs, starts them again."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shunter.embedded.server import keep_last_log, log_tail, tethered

Say = Callable[[str], None]

POLL_S = 0.1
FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 15.0
"""Between the end of a child and its next start: doubled at each end, up to this."""

SETTLED_AFTER_S = 30.0
"""A child that has run for so long starts its delays anew when it ends."""

_LOUD = re.compile(r"(?:\bWARNING (?=shunter\.)|\b(?:ERROR|CRITICAL) )[\w.]+: .*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """One child: `arguments` are those of the `shunter` command."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    log_file: Path
    stop_within_s: float

    @property
    def command(self) -> list[str]:
        """The whole command line; -P keeps modules of the current directory out."""
        return [sys.executable, "-P", "-m", "shunter", *self.arguments]


class Supervisor:
    """A thread that owns children: the kernel kills them when it ends, and so when our process does."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._children: list[_Child] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="supervisor", daemon=True)
        self._thread.start()

    def add(self, spec: ChildSpec) -> None:
        """Start a child, and keep it running."""
        keep_last_log(spec.log_file)
        with self._lock:
            self._children.append(_Child(spec, self._say))
        self._wake.set()

    def pids(self) -> dict[str, int]:
        """The children that run now."""
        with self._lock:
            return {child.spec.name: child.pid for child in self._children if child.pid is not None}

    def ends(self) -> dict[str, int]:
        """How often each child has ended by itself."""
        with self._lock:
            return {child.spec.name: child.ends for child in self._children}

    def stop(self, names: Iterable[str]) -> None:
        """End these children together: asked first, killed when they take too long."""
        wanted = set(names)
        with self._lock:
            stopping = [child for child in self._children if child.spec.name in wanted]
            self._children = [child for child in self._children if child not in stopping]
        for child in stopping:
            child.ask_to_end()
        for child in stopping:
            child.wait_for_end()

    def close(self) -> None:
        """End all children that are left."""
        self.stop(list(self.ends()))
        self._closed = True
        self._wake.set()
        self._thread.join()

    def _loop(self) -> None:
        while not self._closed:
            self._wake.wait(POLL_S)
            self._wake.clear()
            with self._lock:
                for child in self._children:
                    child.tend(time.monotonic())


class _Child:
    """One child through all its lives; only `tend` starts it."""

    def __init__(self, spec: ChildSpec, say: Say) -> None:
        self.spec = spec
        self.ends = 0
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0
        self._start_at = 0.0
        self._delay_s = FIRST_DELAY_S
        self._log = LogFollower(spec.log_file)
        self._asked_at = 0.0

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def tend(self, now: float) -> None:
        """Show the log's news, and start the process if it is due."""
        self._show()
        if self._process is None:
            if now >= self._start_at:
                self._start(now)
        elif (code := self._process.poll()) is not None:
            self._ended(code, now)

    def ask_to_end(self) -> None:
        self._asked_at = time.monotonic()
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.terminate()

    def wait_for_end(self) -> None:
        if self._process is None:
            return
        left_s = self._asked_at + self.spec.stop_within_s - time.monotonic()
        try:
            self._process.wait(max(0.0, left_s))
        except subprocess.TimeoutExpired:
            self._say(f"{self.spec.name} did not end within {self.spec.stop_within_s:.0f} s and is killed")
            self._process.kill()
            self._process.wait()
        self._show()

    def _start(self, now: float) -> None:
        self._began = now
        try:
            with self.spec.log_file.open("ab") as log:
                self._process = subprocess.Popen(
                    tethered(self.spec.command, death_signal=signal.SIGKILL),
                    env=self.spec.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # a Ctrl-C at the terminal is for the owner, who stops in order
                )
        except OSError as error:
            self._say(f"{self.spec.name} cannot be started: {error}")
            self._start_at, self._delay_s = now + self._delay_s, min(self._delay_s * 2, LONGEST_DELAY_S)

    def _ended(self, code: int, now: float) -> None:
        self._process = None
        self.ends += 1
        if now - self._began > SETTLED_AFTER_S:
            self._delay_s = FIRST_DELAY_S
        self._say(
            f"{self.spec.name} ended with code {code} and starts again in {self._delay_s:g} s; "
            f"its last log lines ({self.spec.log_file}) were\n{log_tail(self.spec.log_file)}"
        )
        self._start_at, self._delay_s = now + self._delay_s, min(self._delay_s * 2, LONGEST_DELAY_S)

    def _show(self) -> None:
        for line in self._log.news():
            if loud := _LOUD.search(line):
                self._say(f"{self.spec.name}: {loud[0]}")


class LogFollower:
    """Reads what has been added to a log since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = 0

    def news(self) -> list[str]:
        """The whole lines that are new."""
        try:
            with self._path.open("rb") as log:
                log.seek(self._place)
                added = log.read()
        except FileNotFoundError:
            return []
        complete = added[: added.rfind(b"\n") + 1]
        self._place += len(complete)
        return complete.decode(errors="replace").splitlines()
