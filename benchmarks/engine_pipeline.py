"""Rows through an engine's stages, without a hub, beside the plain loop of the same model.

    OMP_NUM_THREADS=1 python -m benchmarks.engine_pipeline encoder --rows 256 --job-rows 1000 32 1

Served and raw runs alternate in one process; told are the medians, their ratio in time and in CPU
seconds (which a busy machine does not change much), and what each stage took per row.
"""

from __future__ import annotations

import argparse
import queue
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shunter.storage.file_object_store import FileObjectStore
from shunter.storage.ids import new_id
from shunter.storage.job import ClaimedJob, JobState, Priority
from shunter.storage.model_config import ModelConfig
from shunter.storage.model_registry import read_config
from shunter.storage.payload import encode_rows
from shunter.workers.engine import SWITCH_INTERVAL_S, make_line
from shunter.workers.inputs_ahead import InputsAhead
from shunter.workers.loaders import load_model
from shunter.workers.messages import BatchDone, Finished, Run, ToHub
from shunter.workers.model import hooks_of
from shunter.workers.runner import Runner
from shunter.workers.stages import Stages

MODELS = Path(__file__).parent / "models"
RAW_SIZES = (8, 16, 32, 64, 128, 256, 1024)
TOKENS = 64
WAIT_S = 300.0


class Pipeline:
    """The stages of one engine in threads of this process."""

    def __init__(self, model: object, config: ModelConfig) -> None:
        self._said: queue.SimpleQueue[Sequence[ToHub]] = queue.SimpleQueue()
        self._line = make_line(config)
        store = FileObjectStore(Path("/nonexistent"))
        stages = Stages(
            self._line,
            Runner(model),
            store,
            inputs=InputsAhead(store),
            send=self._said.put,
            bunch_rows=config.batching.max_rows,
        )
        steps = (stages.preprocess_jobs, stages.gather_batches, stages.finish_batches, stages.run_batches)
        for step in steps:
            threading.Thread(target=step, daemon=True).start()

    def run(self, jobs: Sequence[ClaimedJob]) -> Counter[str]:
        """Take jobs from their arrival to their outcome; seconds by stage, and the rows and batches."""
        self._line.accept([Run(job) for job in jobs])
        seconds: Counter[str] = Counter()
        finished = 0
        while finished < len(jobs):
            for message in self._said.get(timeout=WAIT_S):
                if isinstance(message, Finished):
                    for outcome in message.outcomes:
                        assert outcome.state is JobState.SUCCEEDED, outcome.error
                    finished += len(message.outcomes)
                elif isinstance(message, BatchDone):
                    seconds["batches"] += 1
                    for stage in ("preprocess", "forward", "postprocess"):
                        seconds[stage] += getattr(message, f"{stage}_s")
        return seconds


def rows_for(model: str, count: int) -> list[Any]:
    """Rows of the model's own kind, the same every time."""
    chance = np.random.default_rng(0)
    if model == "encoder":
        return list(chance.integers(1, 30_000, (count, TOKENS)))
    return list(chance.random((count, 128), dtype=np.float32))


def jobs_of(rows: Sequence[Any], job_rows: int) -> list[ClaimedJob]:
    """The rows cut into jobs."""
    return [
        ClaimedJob(
            id=new_id(),
            epoch=1,
            model="measured",
            version=1,
            rows=len(part),
            priority=Priority.STANDARD,
            attempts=0,
            deaths=0,
            deadline_in_s=None,
            queued_s=0.0,
            input=encode_rows(part),
            input_key=None,
        )
        for part in (rows[start : start + job_rows] for start in range(0, len(rows), job_rows))
    ]


def raw_loop(model: object, rows: Sequence[Any], size: int) -> float:
    """Seconds for all rows in batches of `size`, in the plainest loop that ends with arrays."""
    hooks = hooks_of(model)
    torch = sys.modules.get("torch")
    began = time.perf_counter()
    for start in range(0, len(rows), size):
        batch: Any = rows[start : start + size]
        if hooks.collate is not None:
            batch = hooks.collate(batch, pad_to=TOKENS)
        if torch is None:
            hooks.forward(batch)
        else:
            with torch.inference_mode():
                hooks.forward(batch).numpy()
    return time.perf_counter() - began


def best_size(model: object, rows: Sequence[Any]) -> int:
    """The batch size at which the plain loop is fastest."""
    return min(RAW_SIZES, key=lambda size: min(raw_loop(model, rows, size) for _ in range(2)))


def main() -> None:
    """Measure one model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", choices=sorted(path.name for path in MODELS.iterdir()))
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--job-rows", type=int, nargs="+", default=[1000, 32, 1])
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    directory = MODELS / options.model / "1"
    config = read_config(directory)
    model = load_model(directory, config, "cpu")
    pipeline = Pipeline(model, config)
    rows = rows_for(options.model, options.rows)
    size = best_size(model, rows)
    print(f"{options.model}: raw loop at its best batch size, {size}")
    for job_rows in options.job_rows:
        _measure(pipeline, model, rows, (size, job_rows, options.repetitions))


def _measure(pipeline: Pipeline, model: object, rows: Sequence[Any], plan: tuple[int, int, int]) -> None:
    size, job_rows, repetitions = plan
    raw, served, cpu, stages = [], [], [], Counter[str]()
    for _ in range(repetitions):
        cpu_before = time.process_time()
        raw.append(raw_loop(model, rows, size))
        raw_cpu = time.process_time() - cpu_before
        jobs = jobs_of(rows, job_rows)
        began, cpu_before = time.perf_counter(), time.process_time()
        stages += pipeline.run(jobs)
        served.append(time.perf_counter() - began)
        cpu.append(raw_cpu / (time.process_time() - cpu_before))
    ratio = statistics.median(one / other for one, other in zip(raw, served, strict=True))
    each = 1e6 / (len(rows) * repetitions)
    cpu_ratio = statistics.median(cpu)
    costs = "  ".join(
        f"{name} {stages[name] * each:.1f}" for name in ("preprocess", "forward", "postprocess")
    )
    print(
        f"jobs of {job_rows}: served {len(rows) / statistics.median(served):,.0f} rows/s, "
        f"raw {len(rows) / statistics.median(raw):,.0f}, ratio {ratio:.3f} (CPU {cpu_ratio:.3f}), "
        f"{len(rows) * repetitions / stages['batches']:.1f} rows a batch; us per row: {costs}"
    )


if __name__ == "__main__":
    main()
