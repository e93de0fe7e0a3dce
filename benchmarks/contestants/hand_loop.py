"""The process of `hand`: `python -m benchmarks.contestants.hand_loop FORMAT FILE ITEMS BATCH`."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import orjson
import psycopg2

from benchmarks.contestants.child import told
from benchmarks.models import load_model, sample_rows

Part = tuple[Sequence[str], Any]


def jsonl(path: str, size: int) -> Iterator[Part]:
    """Ids and rows of so many lines at a time."""
    with open(path, "rb") as file:
        while lines := [orjson.loads(line) for line in islice(file, size)]:
            yield [line["id"] for line in lines], [line["x"] for line in lines]


def parquet(path: str, size: int) -> Iterator[Part]:
    """Ids and rows of so many rows at a time."""
    import pyarrow.parquet as pq

    for part in pq.ParquetFile(path).iter_batches(size):
        floats = part.column("x").flatten().to_numpy().reshape(part.num_rows, -1)
        yield part.column("id").to_pylist(), np.array(floats)


def main() -> None:
    """Load, warm up, then read, infer and store to the end of the file."""
    import torch

    format, path, items, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    read = {"JSONL": jsonl, "Parquet": parquet}[format]
    model = load_model("mlp")
    connection = psycopg2.connect(os.environ["SHUNTER_DATABASE_URL"])
    connection.autocommit = True
    with connection.cursor() as cursor, torch.inference_mode():
        model.forward(model.collate(sample_rows("mlp", size), pad_to=None))
        with told(items):
            for ids, rows in read(path, size):
                outputs = model.forward(model.collate(rows, pad_to=None)).tolist()
                pairs = zip(ids, outputs, strict=True)
                lines = "".join(f"{id}\t{orjson.dumps(output).decode()}\n" for id, output in pairs)
                cursor.copy_expert("COPY results (id, result) FROM STDIN", io.StringIO(lines))


if __name__ == "__main__":
    main()
