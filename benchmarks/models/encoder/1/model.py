"""A MiniLM-sized sentence encoder with random weights: 6 layers, 384 wide, 12 heads, 64 tokens at most.

A row is a list or an integer array of 1 to 64 token ids below 30522; its output is the mean of the last
layer over its real tokens, float32 [384].
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

VOCABULARY = 30522
LONGEST = 64
WIDTH = 384
HEADS = 12
LAYERS = 6
SEED = 0


class Batch(NamedTuple):
    """Token ids, zeros where padded, and which of them are real; both [rows, tokens]."""

    ids: Tensor
    real: Tensor


class Layer(nn.Module):
    """Attention and a feed-forward part, each followed by its norm, as in BERT."""

    def __init__(self) -> None:
        super().__init__()
        self.mixed = nn.Linear(WIDTH, 3 * WIDTH)
        self.joined = nn.Linear(WIDTH, WIDTH)
        self.attended = nn.LayerNorm(WIDTH)
        self.wide = nn.Linear(WIDTH, 4 * WIDTH)
        self.narrow = nn.Linear(4 * WIDTH, WIDTH)
        self.finished = nn.LayerNorm(WIDTH)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Hidden states in and out, [rows, tokens, width]."""
        split = self.mixed(hidden).unflatten(-1, (3, HEADS, WIDTH // HEADS))
        query, key, value = split.permute(2, 0, 3, 1, 4)
        heads = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        hidden = self.attended(hidden + self.joined(heads.transpose(1, 2).flatten(2)))
        return self.finished(hidden + self.narrow(F.gelu(self.wide(hidden))))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Embeddings, layers, and the mean over the real tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(LONGEST, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, ids: Tensor, real: Tensor) -> Tensor:
        """[rows, width] for [rows, tokens]."""
        hidden = self.norm(self.tokens(ids) + self.positions.weight[: ids.shape[1]])
        for layer in self.layers:
            hidden = layer(hidden, real[:, None, None, :])
        share = real.to(hidden.dtype).unsqueeze(-1)
        return (hidden * share).sum(1) / share.sum(1)


class Model:
    """What Shunter runs."""

    def load(self, directory: Path, device: str) -> None:
        """Make the same random weights every time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            self.network = Encoder().eval().to(device)

    def length(self, row: Sequence[int]) -> int:
        """The tokens of a row."""
        return len(row)

    def collate(self, rows: list[Any], *, pad_to: int | None) -> Batch:
        """Pad the rows to one length, which is at most the longest that the model takes."""
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        width = min(pad_to, LONGEST) if pad_to else lengths.max()
        real = np.arange(width) < lengths[:, None]
        ids = np.zeros(real.shape, np.int64)
        ids[real] = np.concatenate(rows)
        return Batch(torch.from_numpy(ids), torch.from_numpy(real))

    def forward(self, batch: Batch) -> Tensor:
        """The mean of the last layer for each row."""
        return self.network(*batch)  # type: ignore[no-any-return]
