"""`shunter score` on a whole fleet, an engine and a hub killed meanwhile: the dataset is the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shunter.local_fleet import LocalFleet
from tests.acceptance.fleet import running_fleet
from tests.datasets import dataset_content
from tests.waiting import wait_until

ROWS = 30_000
BAD = 12_345

# Slow enough to be killed in the middle; the log says which engine is at work.
MODEL = """
import os, time

class Model:
    def load(self, directory, device):
        self.log = directory / "batches"

    def forward(self, rows):
        with self.log.open("a") as log:
            log.write(f"{os.getpid()}\\n")
        time.sleep(0.01)
        if 12345 in rows:
            raise ValueError("12345 is unlucky")
        return [row * row + 1 for row in rows]
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scoring")


@pytest.fixture(scope="module")
def fleet(directory: Path) -> Iterator[LocalFleet]:
    numbers = list(range(ROWS))
    table = pa.table({"id": [f"n{n}" for n in numbers], "x": numbers, "half": [n / 2 for n in numbers]})
    pq.write_table(table, directory / "in.parquet", row_group_size=20_000)
    with running_fleet(directory, {"square": MODEL}, workers=2) as fleet:
        yield fleet


def start(fleet: LocalFleet, directory: Path, output: str) -> subprocess.Popen[str]:
    """The command of a user, in a process of its own."""
    options = ["--column", "x", "--key", "id", "--keep", "half", "--chunk-rows", "2000", "--json"]
    places = ["--input", str(directory / "in.parquet"), "--output", str(directory / output)]
    return subprocess.Popen(
        [sys.executable, "-m", "shunter", "score", "square", *places, *options],
        env={**os.environ, **fleet.settings.environment()},
        stdout=subprocess.PIPE,
        text=True,
    )


def batches(directory: Path) -> list[int]:
    """The engine of each batch so far."""
    log = directory / "models" / "square" / "1" / "batches"
    return [int(line) for line in log.read_text().splitlines()] if log.exists() else []


def test_kills_in_the_middle_change_nothing(fleet: LocalFleet, directory: Path) -> None:
    undisturbed = start(fleet, directory, "calm")
    status = orjson.loads(undisturbed.communicate(timeout=60)[0])
    assert (undisturbed.returncode, status["rows"]) == (
        3,
        {"total": ROWS, "succeeded": ROWS - 1, "failed": 1},
    )

    before = len(batches(directory))
    disturbed = start(fleet, directory, "stormy")
    wait_until(lambda: len(batches(directory)) > before + 20, timeout_s=30)
    os.kill(batches(directory)[-1], signal.SIGKILL)
    wait_until(lambda: len(batches(directory)) > before + 50, timeout_s=30)
    os.kill(psutil.Process(batches(directory)[-1]).ppid(), signal.SIGKILL)
    status = orjson.loads(disturbed.communicate(timeout=90)[0])
    assert (disturbed.returncode, status["rows"]["failed"]) == (3, 1)

    assert dataset_content(directory / "calm") == dataset_content(directory / "stormy")
    rows = pq.read_table(sorted((directory / "stormy").glob("part-*.parquet"))).to_pylist()
    assert rows == [{"id": f"n{n}", "half": n / 2, "prediction": n * n + 1} for n in range(ROWS) if n != BAD]
