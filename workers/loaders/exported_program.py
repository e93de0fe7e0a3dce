"""`.pt2`: what torch.export saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from shunter.storage.model_config import ModelConfig
from shunter.workers.loaders.author_errors import author_errors

if TYPE_CHECKING:
    from shunter.workers.loaders.torch_artifact import TorchArtifact


def load(path: Path, config: ModelConfig, device: str) -> TorchArtifact:
    """The exported program on the device; its first dimension should be dynamic."""
    with author_errors(
        path, "save it with torch.export.save(torch.export.export(model, ..., dynamic_shapes=...))"
    ):
        import torch

        from shunter.workers.loaders.torch_artifact import TorchArtifact

        program = torch.export.load(path)
        return TorchArtifact(program.module().to(device), config.signature)
