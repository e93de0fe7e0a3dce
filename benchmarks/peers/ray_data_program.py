"""Ray Data: a run for each path of a Parquet file read from stdin, its results into Postgres by COPY."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import ray

from benchmarks.peers.inference import cursor, model
from benchmarks.peers.ray_session import ray_session

BATCH = 1024


class Inference:
    """A stateful actor that keeps model and connection, as Ray Data's documentation has it."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        import torch

        rows = np.stack(batch["x"]) if batch["x"].dtype == object else np.array(batch["x"])
        with torch.inference_mode():
            outputs = model().forward(model().collate(rows, pad_to=None)).tolist()
        pairs = zip(batch["id"], outputs, strict=True)
        lines = "".join(f"{id}\t{orjson.dumps(output).decode()}\n" for id, output in pairs)
        cursor().copy_expert("COPY results (id, result) FROM STDIN", io.StringIO(lines))
        return {"rows": np.array([len(outputs)])}


def main() -> None:
    """One Ray for all runs: its start is not counted."""
    with ray_session():
        ray.data.DataContext.get_current().enable_progress_bars = False
        one = ray.data.ActorPoolStrategy(size=1)
        Path(os.environ["BENCH_READY"]).touch()
        for path in sys.stdin:
            rows = ray.data.read_parquet(path.strip())
            rows.map_batches(Inference, batch_size=BATCH, compute=one).materialize()


if __name__ == "__main__":
    main()
