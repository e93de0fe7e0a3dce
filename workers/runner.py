"""Take rows through a model: preprocess, collate, move, forward, scatter, postprocess."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from shunter.storage.ceiling import Ceiling
from shunter.storage.errors import InvalidInput, ModelLoadError, OutputMismatch
from shunter.workers.ceilings import Ceilings
from shunter.workers.isolation import Failure, Isolated, Raised, Retry, Verdict, attempt, isolate, judge
from shunter.workers.model import hooks_of
from shunter.workers.scatter import scatter

MIN_LENGTH_BUCKET = 16
LENGTH_BUCKETS_PER_OCTAVE = 4
"""Rows of one bucket differ by at most a quarter in length, so that is the most that is padded."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which lane a row goes to: rows of equal `key` share batches, padded to `tokens` (0: no length)."""

    key: Hashable
    tokens: int


@dataclass(frozen=True, slots=True)
class Inputs:
    """What `forward` takes for one whole batch, on the device."""

    value: Any


_ANYWHERE = Place(None, 0)


class Runner:
    """One loaded model on one device. Bad rows come back as verdicts, never as exceptions."""

    def __init__(self, model: object, *, device: str = "cpu") -> None:
        self._hooks = hooks_of(model)
        self._device = device

    @property
    def preprocesses(self) -> bool:
        """Whether model code runs before the batch is made."""
        hooks = self._hooks
        return bool(hooks.preprocess or hooks.preprocess_batch or hooks.length or hooks.shape_key)

    @property
    def gathers(self) -> bool:
        """Whether model code makes the batch."""
        return self._hooks.collate is not None

    @property
    def postprocesses(self) -> bool:
        """Whether model code runs after the batch."""
        return self._hooks.postprocess is not None

    def warm_up(self, row: Any, *, rows: int, ceilings: Ceilings) -> Ceiling | None:
        """Run one full batch of a sample row, or as much of it as fits in memory; raises ModelLoadError.

        Returns the ceiling if it has found a new one.
        """
        values = self.preprocess([row] * rows)
        first = place = self.places(values[:1])[0]
        found = None
        if isinstance(place, Place):
            bucket, tokens = str(place.key), place.tokens
            isolated = self.forward(values, pad_to=tokens, ceiling=ceilings.limit(bucket, tokens))
            first = isolated.results[0]
            if isolated.ceiling is not None:
                found = ceilings.lower(bucket, isolated.ceiling, tokens)
        if isinstance(first, Failure | Retry):
            raise ModelLoadError(f"the warm-up batch of {rows} rows of zeros failed: {first.message}")
        return found

    def preprocess(self, rows: list[Any]) -> list[Any]:
        """Every row as `forward` takes it, or why not."""
        if self._hooks.preprocess_batch is not None:
            return self._preprocess_together(rows, self._hooks.preprocess_batch)
        if self._hooks.preprocess is not None:
            return [_result(self._hooks.preprocess, row) for row in rows]
        return rows

    def places(self, values: list[Any]) -> list[Place | Verdict]:
        """The lane of each preprocessed row; rows that have failed stay as they are."""
        if not self.preprocesses:
            return [_ANYWHERE] * len(values)
        return [value if isinstance(value, Verdict) else self._place(value) for value in values]

    def gather(self, values: list[Any], *, pad_to: int) -> Inputs | None:
        """Collate a batch and move it to the device; None if the model cannot, and forward will say why."""
        made = attempt(self._gather, values, pad_to)
        return None if isinstance(made, Raised) else made

    def forward(
        self,
        values: list[Any],
        *,
        pad_to: int = 0,
        inputs: Inputs | None = None,
        announce: Callable[[Sequence[int]], None] | None = None,
        ceiling: int | None = None,
    ) -> Isolated:
        """One result per row; `inputs` are those gathered before for the same rows.

        `announce` hears the indices of the rows before each call of the model. More than `ceiling` rows
        are known not to fit in memory.
        """

        def run(part: Sequence[int]) -> list[Any]:
            if announce is not None:
                announce(part)
            if len(part) == len(values):
                return self._run(values, pad_to, inputs)
            return self._run([values[index] for index in part], pad_to, None)

        return isolate(len(values), run, ceiling=ceiling)

    def postprocess(self, results: list[Any]) -> list[Any]:
        """What is stored for each row; failed rows stay as they are."""
        hook = self._hooks.postprocess
        if hook is None:
            return results
        return [r if isinstance(r, Verdict) else _result(hook, r) for r in results]

    def _place(self, value: Any) -> Place | Verdict:
        length = self._hooks.length
        if length is not None:
            bucket = _result(lambda row: length_bucket(int(length(row))), value)
            return bucket if isinstance(bucket, Verdict) else Place(bucket, bucket)
        return _ANYWHERE if self._hooks.shape_key is None else Place(self._hooks.shape_key(value), 0)

    def _run(self, values: list[Any], pad_to: int, inputs: Inputs | None) -> list[Any]:
        gathered = inputs or self._gather(values, pad_to)
        with _inference_mode():
            outputs = self._hooks.forward(gathered.value)
        try:
            return scatter(outputs, len(values))
        except InvalidInput as error:
            raise OutputMismatch(error.message) from error

    def _gather(self, values: list[Any], pad_to: int) -> Inputs:
        if self._hooks.collate is None:
            return Inputs(values)
        with _inference_mode():
            return Inputs(_move(self._hooks.collate(values, pad_to=pad_to or None), self._device))

    def _preprocess_together(self, rows: list[Any], hook: Callable[[list[Any]], Sequence[Any]]) -> list[Any]:
        made = attempt(lambda: list(hook(rows)))
        if not isinstance(made, Raised) and len(made) == len(rows):
            return made
        return [_result(lambda row: _only(hook([row])), row) for row in rows]


def length_bucket(length: int) -> int:
    """The smallest bucket that holds a row of this length."""
    if length <= MIN_LENGTH_BUCKET:
        return MIN_LENGTH_BUCKET
    step = (1 << (length - 1).bit_length() - 1) // LENGTH_BUCKETS_PER_OCTAVE
    return -(-length // step) * step


def _result(call: Callable[[Any], Any], value: Any) -> Any:
    made = attempt(call, value)
    return judge(made.error) if isinstance(made, Raised) else made


def _only(rows: Sequence[Any]) -> Any:
    if len(rows) != 1:
        raise OutputMismatch(f"preprocess_batch returned {len(rows)} rows for 1: return as many as it gets")
    return rows[0]


def _inference_mode() -> Any:
    torch: Any = sys.modules.get("torch")
    return nullcontext() if torch is None else torch.inference_mode()


def _move(value: Any, device: str) -> Any:
    """The same batch with its tensors on the device, pinned on the way to a GPU."""
    torch: Any = sys.modules.get("torch")
    if torch is None or device == "cpu":
        return value
    if isinstance(value, torch.Tensor):
        pinned = value.pin_memory() if device.startswith("cuda") and value.device.type == "cpu" else value
        return pinned.to(device, non_blocking=True)
    if hasattr(value, "to"):
        return value.to(device)
    if isinstance(value, Mapping):
        return {name: _move(inner, device) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        moved = [_move(inner, device) for inner in value]
        return moved if isinstance(value, list) else tuple(moved)
    return value
