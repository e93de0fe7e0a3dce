"""A contestant that is one process without a queue: it prints what it did and used as its last line."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from benchmarks.figures import Run
from benchmarks.rig import Process, Rig, wait_for

RUN_WITHIN_S = 600.0


def run_child(bench: Rig, module: str, *arguments: object) -> dict[str, Any]:
    """Run a module of this package to its end, and return what it printed last."""
    command = [sys.executable, "-m", f"benchmarks.contestants.{module}", *map(str, arguments)]
    process = bench.start(f"{module}-{time.monotonic_ns()}", command)
    wait_for(lambda: _ended(process), f"{module} has ended", within_s=RUN_WITHIN_S)
    told: dict[str, Any] = orjson.loads(process.log_file.read_bytes().splitlines()[-1])
    return told


def as_run(told: dict[str, Any]) -> Run:
    """What such a process told, as a run."""
    known = {"items", "seconds", "cpu_s", "rss_bytes"}
    return Run(
        told["items"],
        told["seconds"],
        told["cpu_s"],
        told["rss_bytes"],
        {key: value for key, value in told.items() if key not in known},
    )


@contextmanager
def told(items: int, **extra: Any) -> Iterator[None]:
    """Inside such a process: time the block, then print its line, with what else there is to say."""
    began, cpu = time.perf_counter(), time.process_time()
    yield
    line = {
        "items": items,
        "seconds": time.perf_counter() - began,
        "cpu_s": time.process_time() - cpu,
        "rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        **extra,
    }
    print(orjson.dumps(line).decode(), flush=True)


def _ended(process: Process) -> bool:
    code = process.popen.poll()
    return code == 0 or (code is not None and process.alive())
