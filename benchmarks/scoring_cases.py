"""What `benchmarks.scoring` scores: two models, what their rows are like, and how they are served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.models import FEATURES, TOKENS, VOCABULARY
from benchmarks.rig import MODELS, say

PART = 65_536
"""Rows to a row group of the input."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model of `benchmarks.models`, with rows of `wide` numbers, in batches of up to `max_rows`.

    The loop by hand takes the best of the `sizes` of batches, with as many threads of torch as an engine has:
    one, or with `one_thread` off as many as there are cores. Up to `workers` workers are measured.
    """

    name: str
    wide: int
    max_rows: int
    rows: int
    one_thread: bool
    sizes: tuple[int, ...]
    workers: int

    @property
    def source(self) -> str:
        """What is served."""
        return (MODELS / self.name / "1" / "model.py").read_text()

    @property
    def toml(self) -> str:
        """How it is served."""
        return f"[batching]\nmax_rows = {self.max_rows}\n"

    def numbers(self, count: int, generator: np.random.Generator) -> np.ndarray[Any, Any]:
        """The inputs of so many rows, one after the other."""
        if self.name == "encoder":
            return generator.integers(0, VOCABULARY, count * self.wide)
        return generator.random(count * self.wide, dtype=np.float32)


CASES: Mapping[str, Case] = {
    case.name: case
    for case in (
        Case(
            name="mlp",
            wide=FEATURES,
            max_rows=4096,
            rows=1_000_000,
            one_thread=True,
            sizes=(256, 1024, 4096),
            workers=2,
        ),
        # Its two threads are as many as there are cores: a second worker would find none.
        Case(
            name="encoder",
            wide=TOKENS,
            max_rows=128,
            rows=6_000,
            one_thread=False,
            sizes=(8, 16, 32, 64, 128),
            workers=1,
        ),
    )
}


def write_input(case: Case, path: Path, rows: int) -> Path:
    """A file of `id`, `name` and `x`, the same every time."""
    say(f"writing {rows:,} rows")
    generator = np.random.default_rng(0)
    kind = pa.array(case.numbers(1, generator)).type
    schema = pa.schema({"id": pa.int64(), "name": pa.string(), "x": pa.list_(kind)})
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, PART):
            count = min(PART, rows - start)
            ends = pa.array(np.arange(count + 1, dtype=np.int32) * case.wide)
            numbers = range(start, start + count)
            columns = {
                "id": list(numbers),
                "name": [f"name {n % 1000}" for n in numbers],
                "x": pa.ListArray.from_arrays(ends, pa.array(case.numbers(count, generator))),
            }
            writer.write_table(pa.table(columns, schema=schema))
    return path
