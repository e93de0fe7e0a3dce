"""An image model over files: a row is the path of a PPM file, the output its label and probability.

The paths must mean the same to the worker: a shared disk, or the same machine. Its weights are random.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from shunter import RowError

SIDE = 32
LABELS = ("cat", "dog", "train")


class Model:
    """What Shunter runs."""

    def load(self, directory: Path, device: str) -> None:
        """Make the network, once in each engine; yours reads its weights from `directory`."""
        self._device = device
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 3)]
        self._network = nn.Sequential(*layers).to(device).eval()

    def preprocess(self, path: str) -> np.ndarray:
        """Read one file: what is wrong with it is the error of this row alone."""
        try:
            kind, width, height, _, pixels = Path(path).read_bytes().split(maxsplit=4)
        except (OSError, ValueError) as error:
            raise RowError("unreadable_image", f"{path}: {error}") from error
        if (kind, int(width), int(height)) != (b"P6", SIDE, SIDE):
            raise RowError("unreadable_image", f"{path} is no PPM of {SIDE} x {SIDE} pixels")
        return np.frombuffer(pixels, np.uint8).reshape(SIDE, SIDE, 3)

    def forward(self, images: list[np.ndarray]) -> dict[str, torch.Tensor]:
        """One output for each row, in order."""
        batch = torch.from_numpy(np.stack(images)).to(self._device).permute(0, 3, 1, 2) / 255
        probabilities = self._network(batch).softmax(dim=1)
        best = probabilities.max(dim=1)
        return {"label": best.indices, "probability": best.values}

    def postprocess(self, output: dict[str, np.ndarray]) -> dict[str, object]:
        """What is stored for a row."""
        return {"label": LABELS[int(output["label"])], "probability": round(float(output["probability"]), 3)}
