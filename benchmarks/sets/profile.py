"""Where the CPU goes: producer, hub and engine are sampled while items pass, with no model and with the MLP.

py-spy (in the extra `bench`) writes the stacks of each process to benchmarks/out/, and this prints, for
each process, its CPU µs per item and where they went.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.contest import Plan
from benchmarks.contestants.shunter import Submit, in_threads, many, many_jobs, wait_until_settled
from benchmarks.models import sample_rows
from benchmarks.progress import Progress
from benchmarks.report import Report
from benchmarks.rig import MODELS, OUT, Rig, rig
from benchmarks.usage import cpu_by_process

SAMPLES_A_SECOND = 250
QUICKER = 4
LONGEST_S = 600
SHOWN = 8


def measure(plan: Plan, progress: Progress) -> Sequence[Report]:
    """One table for each load: CPU µs per item and process, and where they went."""
    progress.expect(len(LOADS))
    return [_profile(load, plan.quick, progress) for load in LOADS]


@dataclass(frozen=True, slots=True)
class Load:
    """What passes while it is sampled."""

    name: str
    model: str
    submit: Submit
    items: int


LOADS = (
    Load("noop", "noop", many("noop"), 400_000),
    Load("mlp", "mlp", many("mlp"), 400_000),
    Load("jobs", "mlp", many_jobs("mlp"), 40_000),
    Load("submit", "mlp", in_threads("mlp", 16), 10_000),
)
"""Items in bulk without a model and with one, and jobs of one row each, by submit_jobs and by submit."""


def _profile(load: Load, quick: bool, progress: Progress) -> Report:
    progress.step(load.name)
    report = Report(f"profile-{load.name}", ["process", "CPU µs per item", "where, in µs"], kind="bench")
    model, submit = load.model, load.submit
    items = load.items // QUICKER if quick else load.items
    with rig({model: MODELS / model}) as bench:
        worker = bench.the_worker()
        rows = sample_rows(model, items)
        _pass(bench, submit, rows[: items // 10])
        hub = psutil.Process(worker.pid)
        # The engine is the child that has used most; the others only track resources.
        engine = max(hub.children(), key=lambda child: child.cpu_times().user)
        pids = {"producer": os.getpid(), "worker": hub.pid, "engine": engine.pid}
        before = _cpu_s(hub.pid)
        spies = [_spy(name, pid, load) for name, pid in pids.items()]
        began = time.perf_counter()
        _pass(bench, submit, rows)
        seconds = time.perf_counter() - began
        spent = {name: 1e6 * (now_s - before[name]) / items for name, now_s in _cpu_s(hub.pid).items()}
        for spy in spies:
            spy.send_signal(signal.SIGINT)
            spy.wait()
    for name, micros in spent.items():
        stacks = OUT / f"profile-{load.name}-{name}.txt"
        report.row(name, micros, _where(stacks, micros) if stacks.exists() else "")
    report.notes.append(
        f"{items:,} items in {seconds:.1f} s, while being sampled; each µs is told of the innermost "
        "function of ours, by the samples that held the interpreter's lock."
    )
    return report


def _pass(bench: Rig, submit: Submit, rows: Sequence[Any]) -> None:
    bench.level()
    wait_until_settled(bench, submit(bench.client(), rows), len(rows))


def _cpu_s(worker: int) -> dict[str, float]:
    own = psutil.Process().cpu_times()
    return {"producer": own.user + own.system, **cpu_by_process(worker)}


def _spy(name: str, pid: int, load: Load) -> subprocess.Popen[bytes]:
    target = OUT / f"profile-{load.name}-{name}.txt"
    OUT.mkdir(exist_ok=True)
    target.unlink(missing_ok=True)
    how = f"--format raw --rate {SAMPLES_A_SECOND} --gil --duration {LONGEST_S} -p {pid} -o".split()
    spy = Path(sys.executable).with_name("py-spy")
    return subprocess.Popen([str(spy), "record", *how, str(target)], stdout=subprocess.DEVNULL)


def _where(stacks: Path, micros: float) -> str:
    """The functions of ours that samples ended in or below, as shares of this process's µs per item."""
    inside = Counter[str]()
    for line in stacks.read_text().splitlines():
        frames, _, count = line.rpartition(" ")
        inside[_ours(frames)] += int(count)
    total = inside.total()
    return ", ".join(f"{name} {micros * n / total:.1f}" for name, n in inside.most_common(SHOWN))


def _ours(frames: str) -> str:
    """The innermost function of this project among these frames."""
    own = [frame for frame in frames.split(";") if "(shunter/" in frame]
    if not own:
        return "other"
    function, _, place = own[-1].partition(" (shunter/")
    return f"{function} ({place.partition(':')[0]})"
