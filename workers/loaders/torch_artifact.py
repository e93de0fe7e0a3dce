"""Artifacts that run in torch: what the two kinds of them share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from shunter.storage.signature import Signature
from shunter.workers.loaders.artifact import Arrays, ArtifactModel


class TorchArtifact(ArtifactModel):
    """A callable over tensors; several inputs are passed by position, in the order of [signature.inputs]."""

    def __init__(self, module: Callable[..., Any], signature: Signature) -> None:
        super().__init__(signature)
        self._module = module

    def collate(self, rows: Sequence[Arrays], *, pad_to: int | None) -> list[torch.Tensor]:
        """One tensor for each input."""
        return [torch.from_numpy(column) for column in self.stack(rows)]

    def forward(self, rows: list[torch.Tensor]) -> Any:
        """The module's outputs, as columns."""
        return self.named(self._module(*rows))
