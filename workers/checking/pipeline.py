"""Rows through a model's hooks as the fleet runs them, but nothing is caught: the first error ends it."""

from __future__ import annotations

from bdb import BdbQuit
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

from shunter.storage.errors import OutputMismatch
from shunter.workers.isolation import Raised, attempt
from shunter.workers.lengths import fine_length
from shunter.workers.model import hooks_of
from shunter.workers.runner import Runner


class StageError(Exception):
    """Model code raised `error` in `stage`, or broke that hook's contract."""

    def __init__(self, stage: str, error: BaseException) -> None:
        super().__init__(f"{stage}: {error}")
        self.stage = stage
        self.error = error


class Pipeline:
    """One loaded model. Every method raises StageError."""

    def __init__(self, model: object, runner: Runner) -> None:
        self._hooks = hooks_of(model)
        self._runner = runner

    @property
    def pads(self) -> bool:
        """Whether rows have lengths, so that batches are padded."""
        return self._hooks.length is not None

    def run(self, rows: list[Any], *, pad_to: int = 0) -> list[Any]:
        """What would be stored for each row, all of them in one batch as far as they fit together."""
        return self.finish(self.forward(self.prepare(rows), pad_to=pad_to))

    def prepare(self, rows: list[Any]) -> list[Any]:
        """Each row as `forward` takes it."""
        together, alone = self._hooks.preprocess_batch, self._hooks.preprocess
        if together is not None:
            made = list(_call("preprocess_batch", together, rows))
            if len(made) != len(rows):
                wrong = f"returned {len(made)} rows for {len(rows)}: return as many as it gets"
                raise StageError("preprocess_batch", OutputMismatch(wrong))
            return made
        return rows if alone is None else [_call("preprocess", alone, row) for row in rows]

    def pad_to(self, values: Sequence[Any]) -> int:
        """The length that a batch of these preprocessed rows is padded to; 0 without `length`."""
        lengths = [self._length(value) for value in values] if self.pads else []
        return fine_length(max(lengths)) if lengths else 0

    def forward(self, values: list[Any], *, pad_to: int = 0) -> list[Any]:
        """One raw output for each preprocessed row."""
        outputs: list[Any] = [None] * len(values)
        for group in self.groups(values):
            part = [values[index] for index in group] if len(group) < len(values) else values
            length = pad_to or self.pad_to(part)
            made = _call(
                "forward", lambda part=part, length=length: self._runner.run_once(part, pad_to=length)
            )
            for index, output in zip(group, made, strict=True):
                outputs[index] = output
        return outputs

    def groups(self, values: Sequence[Any]) -> list[list[int]]:
        """The indices of the rows that may share a batch: all, but for artifacts, which need equal shapes."""
        found: dict[Any, list[int]] = {}
        for index, value in enumerate(values):
            key = None if self._hooks.shape_key is None else self._hooks.shape_key(value)
            found.setdefault(key, []).append(index)
        return list(found.values())

    def finish(self, outputs: list[Any]) -> list[Any]:
        """What is stored for each output."""
        hook = self._hooks.postprocess
        return outputs if hook is None else [_call("postprocess", hook, output) for output in outputs]

    def _length(self, value: Any) -> int:
        assert self._hooks.length is not None
        length: Any = _call("length", self._hooks.length, value)
        if isinstance(length, bool) or not isinstance(length, Integral) or int(length) < 0:
            wrong = f"returned {length!r} ({type(length).__name__}): return a number of tokens, as an int"
            raise StageError("length", OutputMismatch(wrong))
        return max(1, int(length))


def _call(stage: str, hook: Callable[..., Any], *arguments: Any) -> Any:
    made = attempt(hook, *arguments)
    if isinstance(made, Raised):
        if isinstance(made.error, BdbQuit):
            raise made.error  # the author leaves the debugger, and wants to be out
        raise StageError(stage, made.error) from made.error
    return made
