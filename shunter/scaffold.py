"""Writes a new model from a template: one that runs at once, for its author to change."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from shunter.storage.errors import Conflict, InvalidInput
from shunter.storage.model_directories import check_name

TEMPLATES = Path(__file__).with_name("templates")
TEMPLATE_NAMES = ("torch", "onnx", "hf-text", "sklearn")


def write_scaffold(name: str, template: str, models: Path) -> Path:
    """Copy a template to `<models>/<name>`, complete at once; returns that directory.

    Raises Conflict if it exists, ModelConfigError for a bad name, InvalidInput if it cannot be written.
    """
    target = models / name
    check_name(name, target)
    if target.exists():
        raise Conflict(f"{target} exists: take another name, or remove it")
    try:
        models.mkdir(parents=True, exist_ok=True)
        # A worker may be watching the directory.
        with tempfile.TemporaryDirectory(prefix=".new-", dir=models) as unfinished:
            copy = Path(unfinished) / "model"
            shutil.copytree(TEMPLATES / template, copy, ignore=shutil.ignore_patterns("__pycache__"))
            return copy.rename(target)
    except OSError as error:
        raise InvalidInput(f"{target} cannot be written: {error}") from error
