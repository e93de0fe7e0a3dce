"""How much memory engines take: read by a thread of its own, because asking a device may last.

On a CPU an engine's memory is the resident memory of its process and its children. Pages that engines share,
such as torch's own code, count for each of them: the sum is never too low. On CUDA it is what the driver says
of its process; inside a container that needs the host's process ids.
"""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import psutil

from shunter.storage.errors import SettingsError

log = logging.getLogger(__name__)

CPU_EVERY_S = 1.0
CUDA_EVERY_S = 5.0  # nvidia-smi takes tenths of a second

CUDA_SHARE = 0.9
"""Of a device that nobody set a limit for: the rest is for contexts, fragments, and what grows in a batch."""

ASK_WITHIN_S = 20.0
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Reading:
    """What a process took, in bytes, and when that was asked, on the monotonic clock."""

    size: int
    at: float


class Gauge(Protocol):
    """Tells what processes take."""

    def watch(self, pids: Sequence[int]) -> None:
        """Which processes to look at from now on."""

    def of(self, pid: int) -> Reading | None:
        """The latest reading of a process, if there is one."""


class Meter:
    """Reads every `every_s` seconds until stopped; what cannot be read is logged once, and left out."""

    def __init__(self, read: Callable[[Sequence[int]], Mapping[int, int]], every_s: float) -> None:
        self._read = read
        self._every_s = every_s
        self._pids: Sequence[int] = ()
        self._readings: Mapping[int, Reading] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="meter", daemon=True)
        self._thread.start()

    def watch(self, pids: Sequence[int]) -> None:
        """Which processes to look at from now on."""
        self._pids = pids

    def of(self, pid: int) -> Reading | None:
        """The latest reading of a process, if there is one."""
        return self._readings.get(pid)

    def stop(self) -> None:
        """Read no more."""
        self._stop.set()
        self._thread.join()

    def _loop(self) -> None:
        silent = False
        while not self._stop.wait(self._every_s):
            at, pids = time.monotonic(), self._pids
            try:
                sizes = self._read(pids) if pids else {}
            except (OSError, psutil.Error, subprocess.SubprocessError, ValueError) as error:
                if not silent:
                    log.warning("the memory of engines cannot be measured, and is estimated: %s", error)
                silent = True
                continue
            silent = False
            self._readings = {pid: Reading(size, at) for pid, size in sizes.items()}


def meter_of(device: str) -> Meter:
    """The meter for a device."""
    if device == "cpu":
        return Meter(resident_memory, CPU_EVERY_S)
    return Meter(device_memory, CUDA_EVERY_S)


def default_budget(device: str) -> int | None:
    """The limit where none is set: none on a CPU, whose system shares and swaps; a share of a GPU.

    Raises SettingsError when the GPU cannot be asked.
    """
    if device == "cpu":
        return None
    index = device.partition(":")[2]
    try:
        answer = _ask_driver(f"--id={index}", "--query-gpu=memory.total")
        return int(CUDA_SHARE * int(answer.split()[0]) * _MIB)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise SettingsError(
            f"the memory of {device} cannot be read ({error}): is there such a GPU, and is nvidia-smi "
            "installed? Otherwise say how much engines may take: --memory 20GiB"
        ) from error


def resident_memory(pids: Sequence[int]) -> dict[int, int]:
    """The resident memory of processes, their children included; without those that have ended."""
    sizes = {}
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
            sizes[pid] = sum(_resident(process) for process in family)
    return sizes


def _resident(process: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess):
        return int(process.memory_info().rss)
    return 0


def device_memory(pids: Sequence[int]) -> dict[int, int]:
    """What the driver says that processes have on their devices."""
    sizes: dict[int, int] = {}
    for line in _ask_driver("--query-compute-apps=pid,used_memory").splitlines():
        pid, _, used = line.partition(",")
        if used.strip().isdecimal() and int(pid) in pids:
            sizes[int(pid)] = sizes.get(int(pid), 0) + int(used) * _MIB
    return sizes


def gpus() -> list[str]:
    """The CUDA devices of this machine; none where there is no driver."""
    try:
        count = len(_ask_driver("--query-gpu=index").split())
    except (OSError, subprocess.SubprocessError):
        return []
    return [f"cuda:{index}" for index in range(count)]


def _ask_driver(*arguments: str) -> str:
    command = ["nvidia-smi", "--format=csv,noheader,nounits", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=ASK_WITHIN_S).stdout
