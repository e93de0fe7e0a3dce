"""A PyTorch model: a row is a list of 4 numbers, the output its score and its class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Model:
    """What Shunter runs."""

    def load(self, directory: Path, device: str) -> None:
        """Build the network, once in each engine."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self._network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
        # Read your weights here, from a file beside this one:
        # self._network.load_state_dict(torch.load(directory / "weights.pt", weights_only=True))
        self._network.to(device).eval()

    def collate(self, rows: list[Any], *, pad_to: int | None) -> Tensor:
        """One batch, on the CPU; it is moved to the device while the batch before it runs."""
        return torch.from_numpy(np.array(rows, dtype=np.float32))

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        """One output for each row, in order."""
        probabilities = torch.softmax(self._network(batch), dim=1)
        score, label = probabilities.max(dim=1)
        return {"score": score, "label": label}
