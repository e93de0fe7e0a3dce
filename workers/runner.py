"""Take rows through a model: preprocess, collate, move, forward, scatter, postprocess."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from shunter.storage.errors import InvalidInput, OutputMismatch
from shunter.workers.batch import Timing
from shunter.workers.device import Device, Inputs, compiled
from shunter.workers.isolation import Isolated, Raised, Verdict, attempt, isolate, judge
from shunter.workers.model import hooks_of
from shunter.workers.scatter import scatter


@dataclass(frozen=True, slots=True)
class Place:
    """Which lane a row goes to: rows of equal `key` may share batches; `length` 0 counts none."""

    key: Hashable
    length: int


_ANYWHERE = Place(None, 0)


class Runner:
    """One loaded model on one device. Bad rows come back as verdicts, never as exceptions.

    `timings` are what its warm-up measured. Raises ModelLoadError for settings that the model cannot have.
    """

    def __init__(
        self, model: object, *, device: str = "cpu", dtype: str | None = None, compile: bool = False
    ) -> None:
        self.timings: list[Timing] = []
        self._hooks = hooks_of(model)
        self._device = Device(device, dtype=dtype)
        for setting, wanted in (("dtype", dtype), ("compile", compile)):
            if wanted:
                self._device.check(setting)
        self._call = compiled(self._hooks.forward) if compile else self._hooks.forward

    @property
    def changes_rows(self) -> bool:
        """Whether the model has preprocessing of its own."""
        return bool(self._hooks.preprocess or self._hooks.preprocess_batch)

    @property
    def preprocesses(self) -> bool:
        """Whether model code runs before the batch is made."""
        return bool(self.changes_rows or self._hooks.length or self._hooks.shape_key)

    @property
    def gathers(self) -> bool:
        """Whether model code makes the batch."""
        return self._hooks.collate is not None

    @property
    def postprocesses(self) -> bool:
        """Whether model code runs after the batch."""
        return self._hooks.postprocess is not None

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
        trial: bool = False,
    ) -> Isolated:
        """One result per row; `inputs` are those gathered before for the same rows.

        `announce` hears the indices of the rows before each call of the model. More than `ceiling` rows
        are known not to fit in memory, and are tried once if this is a `trial`.
        """

        def run(part: Sequence[int]) -> list[Any]:
            if announce is not None:
                announce(part)
            if len(part) == len(values):
                return self._run(values, pad_to, inputs)
            return self._run([values[index] for index in part], pad_to, None)

        return isolate(len(values), run, ceiling=ceiling, trial=trial)

    def run_once(self, values: list[Any], *, pad_to: int = 0) -> list[Any]:
        """One output for each row, in one call of the model; what that raises comes out as it is."""
        return self._run(values, pad_to, None)

    def postprocess(self, results: list[Any]) -> list[Any]:
        """What is stored for each row; failed rows stay as they are."""
        hook = self._hooks.postprocess
        if hook is None:
            return results
        return [r if isinstance(r, Verdict) else _result(hook, r) for r in results]

    def _place(self, value: Any) -> Place | Verdict:
        length = self._hooks.length
        if length is not None:
            # A row without tokens is padded to one, like any other.
            tokens = _result(lambda row: max(1, int(length(row))), value)
            return tokens if isinstance(tokens, Verdict) else Place(None, tokens)
        return _ANYWHERE if self._hooks.shape_key is None else Place(self._hooks.shape_key(value), 0)

    def _run(self, values: list[Any], pad_to: int, inputs: Inputs | None) -> list[Any]:
        count = len(values)  # before the model can change the list it is given
        batch = self._device.receive(inputs or self._gather(values, pad_to))
        with self._device.forwarding():
            outputs = self._call(batch)
        try:
            return scatter(outputs, count)
        except InvalidInput as error:
            raise OutputMismatch(error.message) from error

    def _gather(self, values: list[Any], pad_to: int) -> Inputs:
        if self._hooks.collate is None:
            return Inputs(values)
        with self._device.collating():
            return self._device.move(self._hooks.collate(values, pad_to=pad_to or None))

    def _preprocess_together(self, rows: list[Any], hook: Callable[[list[Any]], Sequence[Any]]) -> list[Any]:
        made = attempt(lambda: list(hook(rows)))
        if not isinstance(made, Raised) and len(made) == len(rows):
            return made
        return [_result(lambda row: _only(hook([row])), row) for row in rows]


def _result(call: Callable[[Any], Any], value: Any) -> Any:
    made = attempt(call, value)
    return judge(made.error) if isinstance(made, Raised) else made


def _only(rows: Sequence[Any]) -> Any:
    if len(rows) != 1:
        raise OutputMismatch(f"preprocess_batch returned {len(rows)} rows for 1: return as many as it gets")
    return rows[0]
