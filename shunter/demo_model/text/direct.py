"""Embeddings without a fleet: what the text demo's answers are held against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from shunter.demo_model.text.model import Model

ROWS = 16


def embed(directory: Path, texts: Sequence[str]) -> NDArray[np.float32]:
    """One line for each text, in order; texts of similar length go through the model together."""
    model = Model()
    model.load(directory, "cpu")
    rows = model.preprocess_batch(list(texts))
    expected: list[Any] = [None] * len(rows)
    shortest_first = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    for at in range(0, len(rows), ROWS):
        indices = shortest_first[at : at + ROWS]
        part = [rows[index] for index in indices]
        with torch.inference_mode():
            embeddings = model.forward(model.collate(part, pad_to=max(map(len, part))))["embedding"]
        for index, embedding in zip(indices, embeddings.numpy(), strict=True):
            expected[index] = embedding
    return np.stack(expected)
