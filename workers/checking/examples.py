"""Example rows for a model whose author gives none, made from its declared inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from shunter.storage.model_config import ModelConfig
from shunter.storage.signature import ANY, FREE, TEXTUAL, TensorSpec

ROWS = 16
SEED = 7
SIZES = (1, 2, 3, 5)
"""What dimensions of any size take in turn, unless [run] warmup_lengths says more."""

SMALL_NUMBERS = 4
"""Whole numbers stay below: they may be indices."""


def example_rows(config: ModelConfig) -> list[Any] | None:
    """ROWS different rows, the same each time; None where the inputs do not say what a row is."""
    inputs = config.signature.inputs
    if not inputs or any(spec.dtype == FREE for spec in inputs.values()):
        return None
    random = np.random.default_rng(SEED)
    sizes = config.run.warmup_lengths or SIZES
    rows = []
    for index in range(ROWS):
        size = sizes[index % len(sizes)]
        row = {name: _example(spec, size, random) for name, spec in inputs.items()}
        rows.append(next(iter(row.values())) if len(row) == 1 else row)
    return rows


def _example(spec: TensorSpec, size: int, random: np.random.Generator) -> Any:
    if spec.dtype in TEXTUAL:
        words = " ".join(str(word) for word in random.integers(10_000, size=size))
        return words if spec.dtype == "string" else words.encode()
    shape = [size if fixed == ANY else fixed for fixed in spec.shape]
    if np.dtype(spec.dtype).kind in "fc":
        return random.standard_normal(shape).astype(spec.dtype)
    return random.integers(0, SMALL_NUMBERS, shape).astype(spec.dtype)
