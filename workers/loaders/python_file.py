"""`model.py`: a class named Model, written by the model's author."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from shunter.storage.errors import ModelLoadError
from shunter.storage.model_config import ModelConfig
from shunter.workers.loaders.author_errors import author_errors
from shunter.workers.model import MODULE_PREFIX

FILE_NAME = "model.py"
CLASS_NAME = "Model"


_REMEDY = "mend model.py, or the [params] of model.toml if they do not fit its {method}()"


def load(directory: Path, config: ModelConfig, device: str) -> Any:
    """Import the file, make a Model and load it."""
    with author_errors(directory / FILE_NAME, _REMEDY.format(method="load")):
        model = _make(directory)
        if hasattr(model, "load"):
            model.load(directory, device, **config.params)
    return model


def load_preprocessor(directory: Path, config: ModelConfig) -> Any:
    """Import the file and make a Model that can preprocess, by its `load_preprocess` if it has one."""
    with author_errors(directory / FILE_NAME, _REMEDY.format(method="load_preprocess")):
        model = _make(directory)
        if hasattr(model, "load_preprocess"):
            model.load_preprocess(directory, **config.params)
        elif hasattr(model, "load"):
            model.load(directory, "cpu", **config.params)
    return model


def _make(directory: Path) -> Any:
    path = directory / FILE_NAME
    kind = getattr(_module(path), CLASS_NAME, None)
    if kind is None:
        raise ModelLoadError(
            f"{path} defines no class named {CLASS_NAME}: add one, with a forward(rows) method"
        )
    model = kind()
    if not callable(getattr(model, "forward", None)):
        raise ModelLoadError(f"{path}: {CLASS_NAME} has no forward method: add forward(self, rows)")
    return model


def _module(path: Path) -> ModuleType:
    # A name of its own, so that no installed package called `model` is imported instead.
    name = f"{MODULE_PREFIX}{path.parent.parent.name}_{path.parent.name}".replace("-", "_")
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
