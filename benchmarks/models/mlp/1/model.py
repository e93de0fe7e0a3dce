"""A small network with random weights, 128 -> 256 -> 8: what a batch costs here is nearly all overhead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SEED = 0


class Model:
    """What Shunter runs; a row is 128 float32, its output 8."""

    def load(self, directory: Path, device: str) -> None:
        """Make the same random weights every time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            self.network = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 8)).eval().to(device)

    def collate(self, rows: list[Any], *, pad_to: int | None) -> Tensor:
        """One tensor of all rows."""
        return torch.from_numpy(np.asarray(rows, np.float32))

    def forward(self, batch: Tensor) -> Tensor:
        """Eight numbers for each row."""
        return self.network(batch)  # type: ignore[no-any-return]
