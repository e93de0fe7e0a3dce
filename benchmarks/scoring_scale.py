"""What a scoring costs in memory and storage as it grows, and what poison rows cost it.

python -m benchmarks.scoring_scale [--rows 1000000 10000000] [--poison 1000000]
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.report import Report
from benchmarks.rig import Process, Rig, rig, say
from shunter import Client
from shunter.storage.database import Database
from shunter.storage.model_registry import ModelRegistry, scan

PART = 1_000_000
TOML = "[batching]\nmax_rows = 4096\n"

# Version 1 refuses one row in a hundred, some in preprocess and some in forward; version 2 was mended.
MODEL = """
import numpy as np
from shunter import RowError

class Model:
    def preprocess(self, row):
        if {poison} and row % 200 == 7:
            raise RowError("seven", "unlucky")
        return row

    def forward(self, rows):
        values = np.array(rows)
        if {poison} and (values % 200 == 107).any():
            raise ValueError("107 is unlucky")
        return values * 3 + 1
"""
CHEAP = """
import numpy as np

class Model:
    def forward(self, rows):
        return np.array(rows) * 3 + 1
"""


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring_scale", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=[1_000_000, 10_000_000])
    parser.add_argument("--poison", type=int, default=1_000_000, help="rows, of which 1 %% are bad; 0: none")
    arguments = parser.parse_args()
    if arguments.rows:
        growth(arguments.rows).publish()
    if arguments.poison:
        poison(arguments.poison).publish()


def growth(sizes: list[int]) -> Report:
    """Peaks of a fresh worker for each size, and what Redis and Postgres grew by."""
    columns = [
        "rows",
        "rows/s",
        "hub, peak MiB",
        "engine, peak MiB",
        "Redis, peak MiB",
        "Postgres, MiB/M rows",
    ]
    report = Report("scoring-scale", columns)
    for rows in sizes:
        with rig({"cheap": CHEAP}, TOML) as bench:
            source = _write(bench.directory / "in.parquet", rows)
            worker = bench.start_worker()
            before = _stored(bench)
            seconds = _score(bench, source, "cheap", rows)
            hub, engines = _peaks(worker)
            redis_peak = bench.redis.info("memory")["used_memory_peak"] / 2**20  # type: ignore[index]
            grown = (_stored(bench) - before) / 2**20 / (rows / 1e6)
            report.row(f"{rows:,}", rows / seconds, hub, max(engines), redis_peak, grown)
            report.raw[str(rows)] = {"seconds": seconds, "hub": hub, "engines": engines, "redis": redis_peak}
    return report


def poison(rows: int) -> Report:
    """One bad row in a hundred, and the failed rows again with a version that was mended."""
    report = Report("scoring-poison", ["step", "seconds", "succeeded", "failed", "lines in the errors files"])
    with rig({"poisoned": MODEL.format(poison=True)}, TOML) as bench:
        source = _write(bench.directory / "in.parquet", rows)
        bench.start_worker()
        with Client(settings=bench.settings) as client:
            began = time.perf_counter()
            first = client.score("poisoned", source, bench.directory / "scored", columns=["x"], key="x")
            status = first.wait()
            lines = sum(1 for file in _errors(bench.directory / "scored") for _ in file.open())
            report.row("scored", time.perf_counter() - began, status.succeeded, status.failed, lines)
            _publish_mended(bench)
            began = time.perf_counter()
            again = client.retry_errors(first.id).wait()
            report.row("retried, version 2", time.perf_counter() - began, again.succeeded, again.failed, 0)
        keys = {key for part in ("scored", "scored/retry-v2") for key in _keys(bench.directory / part)}
        report.notes.append(f"Keys in the two datasets together: {len(keys):,} of {rows:,}.")
    return report


def _errors(output: Path) -> list[Path]:
    return sorted((output / "_errors").glob("*.jsonl"))


def _keys(output: Path) -> list[int]:
    files = sorted(output.glob("part-*.parquet"))
    return [key for file in files for key in pq.read_table(file, columns=["x"])["x"].to_pylist()]


def _publish_mended(bench: Rig) -> None:
    models = bench.directory / "models"
    second = models / "poisoned" / ".2"
    second.mkdir()
    (second / "model.py").write_text(MODEL.format(poison=False))
    (second / "model.toml").write_text(TOML)
    second.rename(models / "poisoned" / "2")
    database = Database(bench.settings.database_url)
    ModelRegistry(database).register(scan(models).versions)
    database.close()


def _write(path: Path, rows: int) -> Path:
    say(f"writing {rows:,} rows")
    with pq.ParquetWriter(path, pa.schema([("x", pa.int64())])) as writer:
        for start in range(0, rows, PART):
            numbers = np.arange(start, min(rows, start + PART))
            writer.write_table(pa.table({"x": numbers}), row_group_size=PART // 4)
    return path


def _score(bench: Rig, source: Path, model: str, rows: int) -> float:
    output = bench.directory / "scored"
    shutil.rmtree(output, ignore_errors=True)
    began = time.perf_counter()
    with Client(settings=bench.settings) as client:
        status = client.score(model, source, output, columns=["x"], chunk_rows=32_768).wait()
    assert (status.state, status.succeeded) == ("complete", rows), status
    return time.perf_counter() - began


def _peaks(worker: Process) -> tuple[float, list[float]]:
    hub = psutil.Process(worker.pid)
    return _peak(hub.pid), [_peak(child.pid) for child in hub.children()]


def _peak(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def _stored(bench: Rig) -> int:
    return int(bench.value("SELECT pg_database_size(current_database())"))


if __name__ == "__main__":
    main()
