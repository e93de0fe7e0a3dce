"""Scoring a dataset, beside the loop one would write by hand.

python -m benchmarks.scoring [--model mlp|encoder] [--rows N] [--repetitions N] [--workers N] [--ray]

Parquet to Parquet, two columns kept. The loop is one process with pyarrow and torch; each turn of the fleet
follows one of it, and both have as many threads of torch in a process.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.contestants.child import run_child
from benchmarks.report import Report, spread
from benchmarks.rig import PEERS, ROOT, Process, Rig, peer_venv, rig, say
from benchmarks.scoring_cases import CASES, Case, write_input
from shunter import Client

WARM_UP = 10
"""Before the first turn one of so many parts of its rows: engines start, and their rate becomes known."""

FEW, FEW_TIMES = 8, 9
"""So few rows show what a scoring takes besides them."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The loop by hand, whole and without its imports, and the fleet after it; rows a second."""

    by_hand: float
    running: float
    fleet: float


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scoring",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", choices=CASES, default="mlp")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--workers", type=int, help="fleets of 1 to so many workers")
    parser.add_argument(
        "--ray", action="store_true", help="the MLP beside Ray Data, in an environment made for it"
    )
    arguments = parser.parse_args()
    case = CASES[arguments.model]
    ray = peer_venv("ray") if arguments.ray else None
    rows, workers = arguments.rows or case.rows, arguments.workers or case.workers
    scoring(case, rows, repetitions=arguments.repetitions, workers=workers, ray=ray).publish()


def scoring(case: Case, rows: int, *, repetitions: int, workers: int = 1, ray: Path | None = None) -> Report:
    """Rows per second of fleets of one worker and more, each measurement right after one of the loop.

    With `ray`, a Python that has it, Ray Data on two cores follows.
    """
    columns = [
        "what",
        "rows/s, median (range)",
        "x hand loop",
        "x hand loop after its imports",
        "peak RSS, MiB",
    ]
    report = Report(f"scoring-{case.name}", columns)
    with rig({case.name: case.source}, case.toml, one_thread=case.one_thread) as bench:
        source = write_input(case, bench.directory / "in.parquet", rows)
        first = write_input(case, bench.directory / "first.parquet", max(1, rows // WARM_UP))
        hand = HandLoop.at_its_best(bench, case)
        fleet: list[Process] = []
        turns: list[Turn] = []
        for count in range(1, workers + 1):
            fleet.append(bench.start_worker(f"worker-{count}"))
            for _ in range(2):  # The second time with chunks as large as the rate wants.
                score(bench, case, first, rows // WARM_UP)
            if count == 1:
                _note_fixed(bench, case, report)
            these = [_turn(bench, hand, source, rows) for _ in range(repetitions)]
            turns += these
            report.row(
                f"Shunter, {count} worker{'s' * (count > 1)}",
                spread([turn.fleet for turn in these]),
                spread([turn.fleet / turn.by_hand for turn in these]),
                spread([turn.fleet / turn.running for turn in these]),
                ", ".join(_peaks(worker.pid) for worker in fleet),
            )
            report.raw[f"{count} workers"] = [(turn.fleet, turn.by_hand, turn.running) for turn in these]
        if ray is not None:
            report.raw["ray"] = rates = [_ray(bench, ray, source, rows) for _ in range(repetitions)]
            ours = statistics.median(turn.fleet for turn in turns[-repetitions:])
            # Its own start is not counted, as the fleet's is not.
            times = f"Shunter {ours / statistics.median(rates):.2f} x"
            report.row("Ray Data, 2 cores", spread(rates), times, "-", "-")
        by_hand = spread([turn.by_hand for turn in turns])
        report.row(f"hand loop, {hand}", by_hand, 1, "-", f"{hand.peak_mib:.0f}")
        _note_growth(bench, report, rows)
    report.raw |= {"rows": rows}
    return report


@dataclass
class HandLoop:
    """The loop by hand, with so many rows to a batch; `peak_mib` is that of its last run."""

    case: Case
    size: int
    threads: int
    peak_mib: float = 0.0

    @classmethod
    def at_its_best(cls, bench: Rig, case: Case) -> HandLoop:
        """With the size that is fastest here."""
        threads = 1 if case.one_thread else len(os.sched_getaffinity(0))
        rates = run_child(bench, "raw_loop", case.name, threads, "sweep", *case.sizes)["rates"]
        say(", ".join(f"batches of {size}: {rate:,.0f}/s" for size, rate in rates.items()))
        return cls(case, int(max(rates, key=rates.__getitem__)), threads)

    def run(self, source: Path, target: Path) -> tuple[float, float]:
        """Seconds of the process, and those after its imports."""
        program = [sys.executable, "-m", "benchmarks.peers.scoring_by_hand", self.case.name]
        command = [*program, str(source), str(target), str(self.size), str(self.threads)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
        began = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=environment)
        seconds = time.perf_counter() - began
        running, self.peak_mib = map(float, done.stdout.split())
        return seconds, running

    def __str__(self) -> str:
        return f"batches of {self.size}, threads: {self.threads}"


def _turn(bench: Rig, hand: HandLoop, source: Path, rows: int) -> Turn:
    seconds, running = hand.run(source, bench.directory / "by-hand.parquet")
    turn = Turn(rows / seconds, rows / running, score(bench, hand.case, source, rows))
    say(f"{turn.fleet:,.0f}/s, by hand {turn.by_hand:,.0f}/s, after its imports {turn.running:,.0f}/s")
    return turn


def score(bench: Rig, case: Case, source: Path, rows: int) -> float:
    """Rows a second, from the call until the dataset is there."""
    output = bench.directory / "scored"
    shutil.rmtree(output, ignore_errors=True)
    began = time.perf_counter()
    with Client(settings=bench.settings) as client:
        scoring = client.score(case.name, source, output, columns=["x"], keep=["id", "name"], force=True)
        status = scoring.wait()
    seconds = time.perf_counter() - began
    assert (status.state, status.succeeded) == ("complete", rows), status
    return rows / seconds


def _ray(bench: Rig, python: Path, source: Path, rows: int) -> float:
    target = bench.directory / "by-ray"
    shutil.rmtree(target, ignore_errors=True)
    command = [str(python), str(PEERS / "ray_scoring_program.py"), str(source), str(target), "2"]
    quiet = {
        "OMP_NUM_THREADS": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    environment = {**os.environ, **quiet}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return rows / float(done.stdout.split()[-1])


def _peaks(pid: int) -> str:
    hub = psutil.Process(pid)
    return " + ".join(f"{_peak_mib(process.pid):.0f}" for process in (hub, *hub.children()))


def _peak_mib(process: int) -> float:
    """The most memory that a process has ever had."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def _note_fixed(bench: Rig, case: Case, report: Report) -> None:
    """What planning, publishing and waiting take, however few the rows are."""
    source = write_input(case, bench.directory / "few.parquet", FEW)
    seconds = [FEW / score(bench, case, source, FEW) for _ in range(FEW_TIMES)]
    report.notes.append(f"A scoring of {FEW} rows takes {spread(seconds)} s.")


def _note_growth(bench: Rig, report: Report, rows: int) -> None:
    scored = bench.value("SELECT sum(rows) FROM scoring_chunks")
    tables = ("jobs_default", "scorings", "scoring_chunks")
    size = bench.value(
        "SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables WHERE relname LIKE 'jobs%%' "
        "OR relname = ANY(%s)",
        list(tables),
    )
    memory = bench.redis.info("memory")["used_memory_peak"]  # type: ignore[index]
    report.notes.append(
        f"{rows:,} rows, hub and engine apart. Postgres grew to {size / 2**20:.2f} MiB in "
        f"{scored:,} scored rows; Redis had {memory / 2**20:.1f} MiB at its peak."
    )


if __name__ == "__main__":
    main()
