"""The process of `raw`: `raw_loop MODEL THREADS sweep SIZE…`, or `… alike|mixed ROWS SIZE [FILE]`.

With a file, the outputs are saved there. Tells how much of what the model saw was padding.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson

from benchmarks.contestants.child import told
from benchmarks.models import load_model, mixed_rows, sample_rows

SWEEP_S = 1.0
LEAST_TIMES = 2
WARM_UP_ROWS = 64


def outputs_of(model: Any, rows: Sequence[Any], size: int) -> Iterator[Any]:
    """The outputs of one batch after the other, as arrays."""
    for start in range(0, len(rows), size):
        yield model.forward(model.collate(rows[start : start + size], pad_to=None)).numpy()


def rate_at(model: Any, rows: Sequence[Any], size: int) -> float:
    """Rows a second at one batch size: the median batch of about a second."""
    times: list[float] = []
    end = time.perf_counter() + SWEEP_S
    while time.perf_counter() < end or len(times) < LEAST_TIMES:
        began = time.perf_counter()
        next(outputs_of(model, rows[:size], size))
        times.append(time.perf_counter() - began)
    return size / float(np.median(times))


def padding(rows: Sequence[Any], size: int) -> float:
    """The share of padded tokens when batches are padded to their longest row."""
    lengths = [len(row) for row in rows]
    batches = [lengths[start : start + size] for start in range(0, len(rows), size)]
    return 1 - sum(lengths) / sum(len(batch) * max(batch) for batch in batches)


def main() -> None:
    """Sweep the batch sizes, or run once."""
    import torch

    name, threads, kind, *numbers = sys.argv[1:]
    model = load_model(name, threads=int(threads))
    with torch.inference_mode():
        if kind == "sweep":
            sizes = [int(number) for number in numbers]
            rows = sample_rows(name, max(sizes))
            rate_at(model, rows, min(sizes))
            print(orjson.dumps({"rates": {str(size): rate_at(model, rows, size) for size in sizes}}).decode())
            return
        count, size = int(numbers[0]), int(numbers[1])
        rows = mixed_rows(count) if kind == "mixed" else sample_rows(name, count)
        list(outputs_of(model, rows[:WARM_UP_ROWS], size))
        with told(count, padding=padding(rows, size)):
            outputs = list(outputs_of(model, rows, size))
        if numbers[2:]:
            np.save(numbers[2], np.concatenate(outputs))


if __name__ == "__main__":
    main()
