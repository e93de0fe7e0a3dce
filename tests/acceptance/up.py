"""The `shunter up` command as a process, and what it prints."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.waiting import wait_until

COMMAND = [sys.executable, "-P", "-m", "shunter"]
READY_WITHIN_S = 60.0


@dataclass
class Up:
    """A running `shunter up`; `directory` is where it was started, and holds its data and models."""

    directory: Path
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        with self._file("out").open("wb") as out, self._file("err").open("wb") as err:
            self.process = subprocess.Popen(
                [*COMMAND, "up", *self.arguments],
                cwd=self.directory,
                env={**clean_environment(), **self.environment},
                stdout=out,
                stderr=err,
            )

    def wait_until_ready(self) -> Mapping[str, str]:
        """The URLs of the ready line."""
        line = wait_until(self._ready_or_ended, READY_WITHIN_S)
        assert line.startswith("ready "), f"no ready line: {line!r} {self.err()}"
        return dict(word.split("=", 1) for word in line.split()[1:])

    def out(self) -> str:
        return self._file("out").read_text()

    def err(self) -> str:
        return self._file("err").read_text()

    def processes(self) -> list[psutil.Process]:
        """Every process below it."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, *words: str) -> psutil.Process:
        """The process below it whose command line holds these words."""
        return next(p for p in self.processes() if all(word in " ".join(p.cmdline()) for word in words))

    def end(self, number: signal.Signals = signal.SIGTERM, *, within_s: float = 45.0) -> int:
        """Send a signal, and wait for the exit code."""
        self.process.send_signal(number)
        return self.process.wait(within_s)

    def command(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Another `shunter` command, with the environment that `shunter env` prints."""
        return shunter(*arguments, directory=self.directory, environment=self.exports(), stdin=stdin)

    def exports(self) -> dict[str, str]:
        """What a second shell gets from `eval $(shunter env)`."""
        script = f'eval "$({" ".join(COMMAND)} env)" && env -0'
        shell = subprocess.run(
            ["bash", "-ec", script],
            cwd=self.directory,
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        variables = (entry.split("=", 1) for entry in shell.stdout.split("\0") if "=" in entry)
        return {name: value for name, value in variables if name.startswith("SHUNTER_")}

    def _ready_or_ended(self) -> str:
        lines = self.out().splitlines()
        return (
            lines[0] if lines else "" if self.process.poll() is None else f"ended: {self.process.returncode}"
        )

    def _file(self, name: str) -> Path:
        return self.directory / f"up.{name}"


@contextmanager
def running_up(
    directory: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[Up]:
    """A ready `shunter up`, without Flower unless it is asked for; ended when the block ends."""
    up = Up(directory, ("--port", "0", *(arguments or ("--no-flower",))), environment or {})
    up.start()
    try:
        up.wait_until_ready()
        yield up
    finally:
        if up.process.poll() is None:
            up.end()


def shunter(
    *arguments: str, directory: Path, environment: Mapping[str, str] | None = None, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """One `shunter` command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=directory,
        env={**clean_environment(), **(environment or {})},
        input=stdin or "",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def clean_environment() -> dict[str, str]:
    """Ours without any setting of Shunter."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SHUNTER_")}
