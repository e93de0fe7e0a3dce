"""What a process and its children have used: CPU seconds so far, and the peak of their memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

SAMPLE_S = 0.1


@dataclass
class Usage:
    """CPU seconds and peak resident bytes over a stretch of time; filled when the stretch ends."""

    cpu_s: float = 0.0
    rss_bytes: int = 0


@contextmanager
def used_by(*pids: int) -> Iterator[Usage]:
    """Watch these processes with all their children while the block runs."""
    usage, ended = Usage(), threading.Event()
    watcher = threading.Thread(target=_watch, args=(pids, usage, ended), daemon=True)
    before = _cpu_s(pids)
    watcher.start()
    try:
        yield usage
    finally:
        usage.cpu_s = _cpu_s(pids) - before
        ended.set()
        watcher.join()


def cpu_by_process(pid: int) -> dict[str, float]:
    """CPU seconds so far of a worker, of its children, and of the servers that the rig has started."""
    worker = psutil.Process(pid)
    times = worker.cpu_times()
    children = _cpu_s(tuple(child.pid for child in worker.children()))
    return {"worker": times.user + times.system, "engine": children, **_servers()}


def _servers() -> dict[str, float]:
    names = {"postgres": "Postgres", "valkey-server": "Redis", "redis-server": "Redis"}
    started = psutil.Process().children()
    return {names[server.name()]: _cpu_s((server.pid,)) for server in started if server.name() in names}


def _watch(pids: tuple[int, ...], usage: Usage, ended: threading.Event) -> None:
    while True:
        usage.rss_bytes = max(usage.rss_bytes, rss_bytes(*pids))
        if ended.wait(SAMPLE_S):
            return


def rss_bytes(*pids: int) -> int:
    """Resident bytes of these processes and their children now; pages that they share count twice."""
    total = 0
    for process in _family(pids):
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def _cpu_s(pids: tuple[int, ...]) -> float:
    total = 0.0
    for process in _family(pids):
        with suppress(psutil.Error):
            times = process.cpu_times()
            # children_*: those that have ended and were waited for; the living are in the family.
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _family(pids: tuple[int, ...]) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for pid in pids:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            found += [process, *process.children(recursive=True)]
    return found
