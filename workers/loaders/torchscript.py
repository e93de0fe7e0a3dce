"""`.pt` and `.ts`: TorchScript."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from shunter.storage.model_config import ModelConfig
from shunter.workers.loaders.author_errors import author_errors

if TYPE_CHECKING:
    from shunter.workers.loaders.torch_artifact import TorchArtifact


def load(path: Path, config: ModelConfig, device: str) -> TorchArtifact:
    """The scripted or traced module on the device, in evaluation mode."""
    remedy = (
        "save it with torch.jit.save(torch.jit.trace(model, example), path); a state_dict needs a model.py"
    )
    with author_errors(path, remedy):
        import torch

        from shunter.workers.loaders.torch_artifact import TorchArtifact

        module: Any = torch.jit.load(path, map_location=device)  # type: ignore[no-untyped-call]
        return TorchArtifact(module.eval(), config.signature)
