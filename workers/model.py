"""What a model author writes: one class named Model, in the version directory's `model.py`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from shunter.storage.errors import RowError, Transient

__all__ = ["MODULE_PREFIX", "Hooks", "Model", "RowError", "Transient", "hooks_of"]

MODULE_PREFIX = "shunter_model_"
"""Model files are imported under names that begin so, whatever their directory is called."""


class Model:
    """The base of a model; inheriting is optional, only the name `Model` and the methods count.

    Only `forward` must be written. Raise RowError(code, message) for a row that is bad, and
    Transient(after_s) when trying the job again later may help; any other exception is the row's
    own error too. Preprocessing, forward and postprocessing run in threads of their own, at the
    same time, for different batches. Arrays in rows are read-only: copy before changing them.
    """

    def load(self, directory: Path, device: str, **params: Any) -> None:
        """Load the weights from the version directory, once; `params` are model.toml's [params]."""

    def load_preprocess(self, directory: Path, **params: Any) -> None:
        """Load what preprocessing needs, in each process of [run] preprocess_processes; all by default."""
        self.load(directory, "cpu", **params)

    def preprocess(self, row: Any) -> Any:
        """Turn one row into what `forward` takes; an error here is that row's alone."""
        return row

    def preprocess_batch(self, rows: list[Any]) -> Sequence[Any]:
        """The same for many rows at once, as a tokenizer likes it; on an exception, one by one."""
        return rows

    def length(self, row: Any) -> int:
        """The tokens of a preprocessed row; rows of similar length share batches."""
        raise NotImplementedError

    def collate(self, rows: list[Any], *, pad_to: int | None) -> Any:
        """Make one batch of preprocessed rows, on the CPU; its tensors are then moved to the device.

        `pad_to` is a length that no row exceeds, the same for all batches of similar rows; None
        without `length`.
        """
        raise NotImplementedError

    def forward(self, rows: Any) -> Any:
        """Exactly one output for each row, in order.

        `rows` is a list of preprocessed rows, or what `collate` returned. The outputs are a list, or
        a tensor or array whose first dimension counts the rows, or a dict or tuple of such columns:
        then each row gets a dict or a list.
        """
        raise NotImplementedError

    def postprocess(self, output: Any) -> Any:
        """Turn one output into what is stored; tensors have become numpy arrays by now."""
        return output


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """The methods that a model really has; `shape_key` is our artifact loaders' own."""

    forward: Callable[[Any], Any]
    preprocess: Callable[[Any], Any] | None
    preprocess_batch: Callable[[list[Any]], Sequence[Any]] | None
    length: Callable[[Any], int] | None
    collate: Callable[..., Any] | None
    postprocess: Callable[[Any], Any] | None
    shape_key: Callable[[Any], Hashable] | None


def hooks_of(model: object) -> Hooks:
    """Look a model's methods up; those that it merely inherits from Model do not count."""
    return Hooks(**{field.name: _own(model, field.name) for field in fields(Hooks)})


def _own(model: object, name: str) -> Any:
    method = getattr(model, name, None)
    inherited = getattr(Model, name, None)
    return None if inherited is not None and getattr(method, "__func__", None) is inherited else method
