"""Trains the demo's model, and publishes it as a model version."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shunter.demo_model import model as published
from shunter.storage.errors import SettingsError

SEED = 7
EPOCHS = 16
BATCH = 64
LEARNING_RATE = 0.05
MOMENTUM = 0.9
TEST_SHARE = 5  # every fifth image is kept from training
SOURCES = ("model.py", "model.toml")


@dataclass(frozen=True, slots=True)
class Digits:
    """The 1797 handwritten digits that scikit-learn ships; `held_out` marks those not trained on."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    held_out: NDArray[np.bool_]


def load_digits() -> Digits:
    """Read them; SettingsError if scikit-learn is not installed."""
    try:
        from sklearn.datasets import load_digits as load
    except ModuleNotFoundError as error:
        raise SettingsError("the demo needs scikit-learn's images: pip install 'shunter[demo]'") from error
    data: Any = load()
    held_out = np.arange(len(data.target)) % TEST_SHARE == 0
    return Digits(data.images.astype(np.uint8), data.target.astype(np.int64), held_out)


def train(digits: Digits, network: nn.Sequential) -> Iterator[float]:
    """Train the network in place, on one thread, the same way each time; yields the loss of each epoch."""
    torch.set_num_threads(1)
    seen = ~digits.held_out
    images, labels = published.as_batch(digits.images[seen]), torch.from_numpy(digits.labels[seen])
    parameters = list(network.parameters())
    velocities = [torch.zeros_like(parameter) for parameter in parameters]
    order = torch.Generator().manual_seed(SEED)
    for _ in range(EPOCHS):
        shuffled = torch.split(torch.randperm(len(labels), generator=order), BATCH)
        losses = []
        for rows in shuffled:
            loss = nn.functional.cross_entropy(network(images[rows]), labels[rows])
            _step(parameters, velocities, torch.autograd.grad(loss, parameters))
            losses.append(float(loss.detach()))
        yield sum(losses) / len(losses)


def new_network() -> nn.Sequential:
    """A network whose first weights are the same each time."""
    torch.manual_seed(SEED)
    return published.make_network()


def publish(network: nn.Sequential, models: Path, name: str) -> Path:
    """Write the model as version 1, complete at once; returns its directory."""
    unfinished = models / f".{name}"
    unfinished.mkdir(parents=True)
    for source in SOURCES:
        shutil.copy(Path(published.__file__).with_name(source), unfinished)
    torch.save(network.state_dict(), unfinished / published.WEIGHTS)
    (models / name).mkdir()
    return unfinished.rename(models / name / "1")


def predict(directory: Path, digits: Digits) -> NDArray[np.float32]:
    """What the published version says to all images, run here and now, without a fleet."""
    model = published.Model()
    model.load(directory, "cpu")
    probabilities: NDArray[np.float32] = model.forward(published.as_batch(digits.images)).numpy()
    return probabilities


def _step(parameters: Sequence[Tensor], velocities: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    """Gradient descent with momentum; torch.optim would load a compiler first, which leaves files behind."""
    with torch.no_grad():
        for parameter, velocity, gradient in zip(parameters, velocities, gradients, strict=True):
            velocity.mul_(MOMENTUM).add_(gradient)
            parameter.sub_(LEARNING_RATE * velocity)
