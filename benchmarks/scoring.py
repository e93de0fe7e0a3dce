"""Scoring a dataset, beside the loop one would write by hand: `python -m benchmarks.scoring [--rows N]`.

Parquet to Parquet, an MLP of 128 features, two columns kept. The loop is one process with pyarrow and torch;
both use one thread of torch per process and batches of the same size.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.report import Report, spread
from benchmarks.rig import PEERS, Rig, peer_venv, rig, say
from shunter import Client

FEATURES = 128
MAX_ROWS = 1024
PART = 65_536
TOML = f"[batching]\nmax_rows = {MAX_ROWS}\n"
WORKERS = ("one", "two")

MLP = """
import numpy as np, torch

class Model:
    def load(self, directory, device):
        torch.set_num_threads(1)
        torch.manual_seed(0)
        layers = torch.nn.Linear(128, 256), torch.nn.ReLU(), torch.nn.Linear(256, 8)
        self.net = torch.nn.Sequential(*layers).eval()

    def forward(self, rows):
        return self.net(torch.from_numpy(np.stack(rows)))
"""

HAND_LOOP = f"""
import sys, torch
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
source, target = sys.argv[1:]
torch.set_num_threads(1)
torch.manual_seed(0)
layers = torch.nn.Linear(128, 256), torch.nn.ReLU(), torch.nn.Linear(256, 8)
net = torch.nn.Sequential(*layers).eval()
writer = None
with torch.inference_mode():
    for batch in pq.ParquetFile(source).iter_batches({PART}, columns=["id", "name", "x"]):
        x = batch["x"].flatten().to_numpy().reshape(-1, {FEATURES})
        parts = [net(torch.from_numpy(x[at : at + {MAX_ROWS}])) for at in range(0, len(x), {MAX_ROWS})]
        y = torch.cat(parts).numpy()
        ends = pa.array(np.arange(len(y) + 1, dtype=np.int32) * 8)
        lists = pa.ListArray.from_arrays(ends, pa.array(y.reshape(-1)))
        table = pa.table({{"id": batch["id"], "name": batch["name"], "prediction": lists}})
        writer = writer or pq.ParquetWriter(target, table.schema)
        writer.write_table(table)
writer.close()
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--ray", action="store_true", help="beside Ray Data, in an environment made for it")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    ray = peer_venv("ray") if arguments.ray else None
    scoring(arguments.rows, repetitions=arguments.repetitions, ray=ray).publish()


def scoring(rows: int, *, repetitions: int, ray: Path | None = None) -> Report:
    """Rows per second of fleets of one and two workers, each measurement right after one of the loop.

    With `ray`, a Python that has it, Ray Data on two cores follows.
    """
    report = Report("scoring", ["what", "rows/s, median (range)", "x hand loop", "peak RSS, MiB"])
    with rig({"mlp": MLP}, TOML) as bench:
        source = _write_input(bench.directory / "in.parquet", rows)
        loop_rates: list[float] = []
        for count, name in enumerate(WORKERS, 1):
            worker = bench.start_worker(name)
            _score(bench, source, rows)  # warm: engines start, and the rate becomes known
            rates, ratios = [], []
            for repetition in range(repetitions):
                by_hand, peak = _hand_loop(bench, source, rows)
                rate = _score(bench, source, rows)
                say(f"repetition {repetition + 1} of {repetitions}: {rate:,.0f}/s, by hand {by_hand:,.0f}/s")
                loop_rates.append(by_hand)
                rates.append(rate)
                ratios.append(rate / by_hand)
            report.row(
                f"Shunter, {name} worker{'s' * (count > 1)}",
                spread(rates),
                spread(ratios),
                _peaks(worker.pid),
            )
            report.raw[name] = rates
        if ray is not None:
            report.raw["ray"] = [_ray(bench, ray, source, rows) for _ in range(repetitions)]
            _compare_ray(report)
        report.row("hand loop", spread(loop_rates), 1, f"{peak:.0f}")
        _note_growth(bench, report, rows)
    report.raw |= {"rows": rows, "hand loop": loop_rates}
    return report


def _write_input(path: Path, rows: int) -> Path:
    say(f"writing {rows:,} rows")
    generator = np.random.default_rng(0)
    writer = None
    for start in range(0, rows, PART):
        count = min(PART, rows - start)
        x = pa.array(generator.random(count * FEATURES, dtype=np.float32))
        ends = pa.array(np.arange(count + 1, dtype=np.int32) * FEATURES)
        numbers = range(start, start + count)
        columns = {
            "id": list(numbers),
            "name": [f"name {n % 1000}" for n in numbers],
            "x": pa.ListArray.from_arrays(ends, x),
        }
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None, "there is at least one row; this is a bug"
    writer.close()
    return path


def _hand_loop(bench: Rig, source: Path, rows: int) -> tuple[float, float]:
    target = bench.directory / "by-hand.parquet"
    began = time.perf_counter()
    command = [sys.executable, "-c", HAND_LOOP, str(source), str(target)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return rows / (time.perf_counter() - began), int(done.stdout) / 1024


def _compare_ray(report: Report) -> None:
    """Its own start is not counted, as the fleet's is not."""
    ours, rates = statistics.median(report.raw[WORKERS[-1]]), report.raw["ray"]
    report.row("Ray Data, 2 cores", spread(rates), f"Shunter {ours / statistics.median(rates):.2f} x", "-")


def _ray(bench: Rig, python: Path, source: Path, rows: int) -> float:
    target = bench.directory / "by-ray"
    shutil.rmtree(target, ignore_errors=True)
    command = [str(python), str(PEERS / "ray_scoring_program.py"), str(source), str(target), "2"]
    environment = {**os.environ, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return rows / float(done.stdout.split()[-1])


def _score(bench: Rig, source: Path, rows: int) -> float:
    output = bench.directory / "scored"
    shutil.rmtree(output, ignore_errors=True)
    began = time.perf_counter()
    with Client(settings=bench.settings) as client:
        scoring = client.score("mlp", source, output, columns=["x"], keep=["id", "name"], force=True)
        status = scoring.wait()
    seconds = time.perf_counter() - began
    assert (status.state, status.succeeded) == ("complete", rows), status
    return rows / seconds


def _peaks(pid: int) -> str:
    hub = psutil.Process(pid)
    return " + ".join(f"{_peak(process.pid):.0f}" for process in (hub, *hub.children()))


def _peak(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


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
