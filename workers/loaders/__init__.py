"""Loaders: from a version directory to a model, one file for each kind of artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shunter.storage.errors import ModelLoadError
from shunter.storage.model_config import ModelConfig
from shunter.workers.loaders import exported_program, onnx_model, python_file, torchscript

_SUFFIXES = {
    ".pt2": exported_program.load,
    ".pt": torchscript.load,
    ".ts": torchscript.load,
    ".onnx": onnx_model.load,
}


def load_model(directory: Path, config: ModelConfig, device: str) -> Any:
    """The model of a version directory: its `model.py`, else its only artifact; raises ModelLoadError."""
    if (directory / python_file.FILE_NAME).is_file():
        return python_file.load(directory, config, device)
    artifacts = sorted(path for path in directory.glob("*") if path.suffix in _SUFFIXES)
    if len(artifacts) != 1:
        found = f"holds {' and '.join(path.name for path in artifacts)}" if artifacts else "holds no model"
        raise ModelLoadError(
            f"{directory} {found}: put one file there, model.py or *{', *'.join(_SUFFIXES)}, "
            "or a model.py that loads several"
        )
    return _SUFFIXES[artifacts[0].suffix](artifacts[0], config, device)


def load_preprocessor(directory: Path, config: ModelConfig) -> Any:
    """A model that need only preprocess, on the CPU; raises ModelLoadError."""
    if (directory / python_file.FILE_NAME).is_file():
        return python_file.load_preprocessor(directory, config)
    return load_model(directory, config, "cpu")
