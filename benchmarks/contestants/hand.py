"""The loop that one writes by hand, without a queue: a file, the model, COPY."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson

from benchmarks.celery_peer import RESULTS
from benchmarks.contestants.child import as_run, run_child
from benchmarks.figures import Run
from benchmarks.models import sample_rows
from benchmarks.rig import Rig

PART = 10_000


@dataclass
class HandLoop:
    """Reads one format; its file is written before the clock runs, and lies in the page cache."""

    format: str
    batch: int = 1024
    first: int = 10_240
    step: int = 1024
    _bench: Rig = field(init=False, repr=False)

    @property
    def name(self) -> str:
        """What the tables call it."""
        return f"hand loop, {self.format}"

    @property
    def settings(self) -> str:
        """How it is set."""
        return f"no queue, one process, batches of {self.batch}, results of a batch by one COPY"

    def prepare(self, bench: Rig) -> None:
        self._bench = bench
        bench.ask(RESULTS)

    def run(self, items: int) -> Run:
        path = rows_file(self._bench, self.format, items)
        return as_run(run_child(self._bench, "hand_loop", self.format, path, items, self.batch))


def rows_file(bench: Rig, format: str, items: int) -> Path:
    """A file of so many rows, "JSONL" or "Parquet", written when first asked for."""
    path = bench.directory / f"rows-{items}.{format.lower()}"
    if not path.exists():
        (write_jsonl if format == "JSONL" else write_parquet)(path, items)
    return path


def write_jsonl(path: Path, items: int) -> None:
    """A line for each row: its id and its floats, as short as float32 can be written."""
    with path.open("wb") as file:
        for start in range(0, items, PART):
            for index, row in enumerate(sample_rows("mlp", min(PART, items - start)), start):
                file.write(
                    orjson.dumps({"id": _id(index), "x": row}, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"
                )


def write_parquet(path: Path, items: int) -> None:
    """The same rows in two columns, the floats as lists of fixed size."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    floats = pa.FixedSizeListArray.from_arrays(pa.array(np.stack(sample_rows("mlp", items)).ravel()), 128)
    pq.write_table(pa.table({"id": [_id(index) for index in range(items)], "x": floats}), path)


def _id(index: int) -> str:
    return f"00000000-0000-4000-8000-{index:012x}"
