"""Reads handwritten digits, 8x8 pixels from 0 to 16, with a small convolutional network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

WEIGHTS = "weights.pt"


def make_network() -> nn.Sequential:
    """The network, untrained."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def as_batch(images: Any) -> Tensor:
    """Images, as arrays or nested lists, as what the network takes."""
    return torch.from_numpy(np.asarray(images, dtype=np.float32) / 16).unsqueeze(1)


class Model:
    """What Shunter runs."""

    def load(self, directory: Path, device: str) -> None:
        """Read the weights; they are plain tensors, never unpickled."""
        self._network = make_network()
        self._network.load_state_dict(torch.load(directory / WEIGHTS, map_location=device, weights_only=True))
        self._network.to(device).eval()

    def collate(self, rows: list[Any], *, pad_to: int | None) -> Tensor:
        """One batch of images."""
        return as_batch(rows)

    def forward(self, images: Tensor) -> Tensor:
        """The probability of each digit, one line per image."""
        with torch.inference_mode():
            return torch.softmax(self._network(images), dim=1)

    def postprocess(self, probabilities: Any) -> dict[str, Any]:
        """The likeliest digit, and all probabilities."""
        return {"digit": int(probabilities.argmax()), "probabilities": probabilities}
