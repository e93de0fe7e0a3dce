"""Many models and memory for few: all jobs finish, none starves; and pools that take only their own models.

    python -m benchmarks.pools [--models 12] [--places 3] [--jobs 40] [--megabytes 150]

Every model holds so many megabytes, which are written to, and takes 10 ms for a row; each gets so many jobs
of 32 rows, all submitted before the first is done: more work than fits into one turn.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from typing import Any

import orjson
import psutil

from benchmarks.report import Report, percentile
from benchmarks.rig import Process, Rig, rig, say, wait_for
from shunter import Client

ROWS = 32
LOOK_EVERY_S = 0.2
OVERHEAD_MIB = 64
"""Python and numpy, beside what a model holds."""

MODEL = """
import time

class Model:
    def load(self, directory, device, megabytes):
        self.held = bytearray(megabytes << 20)
        self.held[::4096] = b"1" * len(self.held[::4096])

    def forward(self, rows):
        time.sleep(0.01 * len(rows))
        return rows
"""

TOML = """
[batching]
max_rows = 32
[params]
megabytes = {}
"""

WAITS = """
SELECT model, extract(epoch FROM finished_at - (SELECT min(created_at) FROM jobs))::float8
FROM jobs ORDER BY model, finished_at
"""
BY_WORKER = """
SELECT split_part(name, '@', 1), model, count(*) FROM jobs
JOIN workers ON worker = incarnation GROUP BY 1, 2 ORDER BY 1, 2
"""


class Watch:
    """Reads what the engines of a worker take, until stopped."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self.most_engines = 0
        self._worker = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Read no more."""
        self._stop.set()
        self._thread.join()

    def _loop(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            sizes = [size for child in self._worker.children() if (size := _resident(child))]
            self.peak = max(self.peak, sum(sizes))
            self.most_engines = max(self.most_engines, len(sizes))


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def start(place: Rig, name: str, *options: str) -> Process:
    """A worker with these options, once it is registered."""
    command = [sys.executable, "-m", "shunter", "worker", "--name", name, "--log-level", "warning", *options]
    process = place.start(name, command)
    here = "SELECT count(*) FROM workers WHERE pid = %s"
    wait_for(lambda: process.alive() and place.value(here, process.pid), f"{name} is registered")
    return process


def submit(place: Rig, models: list[str], jobs: int) -> float:
    """Submit so many jobs to each model in turn, and wait for all; returns the seconds until the last."""
    with closing(Client(settings=place.settings)) as client:
        began = time.perf_counter()
        for _ in range(jobs):
            for model in models:
                client.submit(model, list(range(ROWS)))
        wait_for(lambda: place.finished() == jobs * len(models), "every job is finished", within_s=900)
        return time.perf_counter() - began


def serving(place: Rig) -> list[dict[str, Any]]:
    """What the workers say of their models."""
    return [said for (serves,) in place.ask("SELECT serves FROM workers") for said in serves]


def take_turns(options: argparse.Namespace) -> None:
    """One worker, many models, memory for few."""
    models = [f"m{number:02}" for number in range(options.models)]
    budget = options.places * (options.megabytes + OVERHEAD_MIB)
    with rig(dict.fromkeys(models, MODEL), TOML.format(options.megabytes)) as place:
        worker = start(place, "worker", "--memory", f"{budget}MiB")
        watch = Watch(worker.pid)
        took_s = submit(place, models, options.jobs)
        wait_for(lambda: sum(said["loads"] for said in serving(place)) >= len(models), "loads are told")
        watch.stop()
        states = Counter(dict(place.ask("SELECT state, count(*) FROM jobs GROUP BY 1")))
        loads = {said["model"]: said["loads"] for said in serving(place)}
        lasts: dict[str, float] = {}
        firsts: dict[str, float] = {}
        waits = place.ask(WAITS)
        for model, wait_s in waits:
            firsts.setdefault(model, wait_s)
            lasts[model] = wait_s
    report = Report("pools-turns", ["what", "figure"])
    report.row("models, places", f"{options.models}, {options.places}")
    report.row("jobs that succeeded, of all", f"{states['succeeded']} of {options.jobs * options.models}")
    report.row("seconds until the last", took_s)
    report.row("budget, peak of all engines (MiB)", f"{budget}, {watch.peak >> 20}")
    report.row("engines at once, at most", watch.most_engines)
    report.row("loads, of the model with most", f"{sum(loads.values())}, {max(loads.values())}")
    report.row("first result of a model, median and last (s)", _median_and_last(firsts))
    report.row("last result of a model, median and last (s)", _median_and_last(lasts))
    report.row("a job, p99 (s)", percentile([wait_s for _, wait_s in waits], 0.99))
    report.raw = {"loads": loads, "firsts": firsts, "lasts": lasts, "states": dict(states)}
    report.publish()


def keep_apart(options: argparse.Namespace) -> None:
    """Two pools of two models each."""
    models = ["a", "b", "c", "d"]
    with rig(dict.fromkeys(models, MODEL), TOML.format(1)) as place:
        start(place, "left", "--pool", "left", "--models", "a,b")
        start(place, "right", "--pool", "right", "--models", "c,d")
        submit(place, models, options.jobs)
        taken = place.ask(BY_WORKER)
    report = Report("pools-apart", ["pool", "jobs by model"])
    for pool in ("left", "right"):
        report.row(pool, ", ".join(f"{model} {count}" for name, model, count in taken if name == pool))
    report.raw = {"taken": orjson.loads(orjson.dumps(taken))}
    report.publish()


def _median_and_last(seconds: dict[str, float]) -> str:
    return f"{statistics.median(seconds.values()):.1f}, {max(seconds.values()):.1f}"


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("models", 12), ("places", 3), ("jobs", 40), ("megabytes", 150)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    say(f"{options.models} models, memory for {options.places}")
    take_turns(options)
    keep_apart(options)


if __name__ == "__main__":
    main()
