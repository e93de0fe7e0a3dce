"""A model on CUDA: copies beside the model's work, precision, memory, and compiling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shunter.storage.model_config import ModelConfig
from shunter.workers.loaders import load_model
from shunter.workers.runner import Runner

ENCODER = Path(__file__).parents[2] / "benchmarks" / "models" / "encoder" / "1"


def encoder(device: str = "cuda") -> Any:
    return load_model(ENCODER, ModelConfig(), device)


def rows(count: int) -> list[Any]:
    chance = np.random.default_rng(0)
    return [chance.integers(1, 30_000, length) for length in chance.integers(1, 65, count)]


def outputs(runner: Runner, values: list[Any]) -> Any:
    inputs = runner.gather(values, pad_to=64)
    assert inputs is not None
    return np.stack(runner.forward(values, pad_to=64, inputs=inputs).results)


def test_the_gpu_agrees_with_the_cpu() -> None:
    values = rows(64)
    expected = outputs(Runner(encoder("cpu")), values)
    assert np.abs(outputs(Runner(encoder(), device="cuda"), values) - expected).max() < 1e-3


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_lower_precision_is_near_the_full_one(dtype: str) -> None:
    values = rows(64)
    model = encoder()
    full, low = (outputs(Runner(model, device="cuda", dtype=lower), values) for lower in (None, dtype))
    cosine = (full * low).sum(1) / np.linalg.norm(full, axis=1) / np.linalg.norm(low, axis=1)
    assert cosine.min() > 0.99


def test_a_batch_copied_while_another_is_in_the_model_arrives_whole() -> None:
    """Each batch is gathered before the one ahead of it is run: no copy may overtake or be overwritten."""

    class Sums:
        def collate(self, rows: list[int], *, pad_to: int | None) -> torch.Tensor:
            return torch.tensor(rows, dtype=torch.float32).repeat(4096, 1)

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            for _ in range(20):
                batch = batch * 1.0
            return batch.mean(0)

    runner = Runner(Sums(), device="cuda")
    batches = [[float(number + index) for index in range(256)] for number in range(200)]
    ahead = runner.gather(batches[0], pad_to=0)
    for number, batch in enumerate(batches):
        current = ahead
        if number + 1 < len(batches):
            ahead = runner.gather(batches[number + 1], pad_to=0)
        assert runner.forward(batch, inputs=current).results == batch


def test_out_of_memory_halves_the_batch_and_loses_no_row() -> None:
    class Hungry:
        def forward(self, rows: list[int]) -> list[int]:
            total = torch.cuda.get_device_properties(0).total_memory
            torch.empty(len(rows) * total // 8, dtype=torch.uint8, device="cuda")
            return rows

    isolated = Runner(Hungry(), device="cuda").forward(list(range(16)))
    assert isolated.results == list(range(16))
    assert isolated.ceiling is not None


def test_a_compiled_model_agrees() -> None:
    values = rows(8)
    model = encoder()
    plain, compiled = (outputs(Runner(model, device="cuda", compile=flag), values) for flag in (False, True))
    assert np.abs(plain - compiled).max() < 1e-3
