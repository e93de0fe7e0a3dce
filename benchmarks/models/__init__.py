"""The models that are measured, as Shunter serves them, and rows for them; needs only numpy to import."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

DIRECTORY = Path(__file__).resolve().parent

FEATURES = 128
TOKENS = 64
VOCABULARY = 30_522
DISTINCT = 1000
"""Rows of one kind that differ; more are these again."""


def load_model(name: str, *, threads: int = 1) -> Any:
    """The model object of a directory beside this file, loaded on the CPU with so many threads."""
    import torch

    torch.set_num_threads(threads)
    path = DIRECTORY / name / "1" / "model.py"
    spec = importlib.util.spec_from_file_location(f"measured_{name}", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.Model()
    model.load(path.parent, "cpu")
    return model


def sample_rows(name: str, count: int) -> list[Any]:
    """Rows for a model, as arrays; the same ones every time."""
    numbers = np.random.default_rng(1)
    if name == "encoder":
        ids = numbers.integers(0, VOCABULARY, (DISTINCT, TOKENS))
        return _again(list(ids), count)
    return _again(list(numbers.random((DISTINCT, FEATURES), dtype=np.float32)), count)


def mixed_rows(count: int) -> list[Any]:
    """Token ids of log-normal length, about 20 in the mean, 64 at most, as short texts have."""
    numbers = np.random.default_rng(2)
    lengths = np.clip(numbers.lognormal(2.8, 0.65, count).astype(int), 2, TOKENS)
    return [numbers.integers(0, VOCABULARY, length) for length in lengths]


def _again(rows: list[Any], count: int) -> list[Any]:
    return [rows[index % len(rows)] for index in range(count)]
