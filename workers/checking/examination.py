"""The same rows alone, as one batch, twice, and in another order: what must not make a difference."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from shunter.storage.errors import InvalidInput, RowError, Transient
from shunter.storage.payload import decode_rows, encode_rows
from shunter.workers.checking import diagnosis
from shunter.workers.checking.comparison import Comparison, all_alike, compare, difference
from shunter.workers.checking.findings import Fault, Finding, Report
from shunter.workers.checking.pipeline import Pipeline, StageError
from shunter.workers.finite import refuse_non_finite
from shunter.workers.isolation import Raised, Verdict, attempt

SEED = 7
"""Of the other order."""


class Examination:
    """One model over some rows, which the codec can write; what is wrong goes into the report."""

    def __init__(
        self, model: object, pipeline: Pipeline, rows: Sequence[Any], *, report: Report, directory: Path,
        tolerance: float, say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._model = model
        self._pipeline = pipeline
        self._blocks = [encode_rows([row]) for row in rows]
        self._report = report
        self._directory = directory
        self._tolerance = tolerance
        self._say = say
        self._writable = False

    def run(self) -> list[int]:
        """Examine the model; returns the rows that succeed together, for measuring."""
        self._look_for_mutation(range(len(self._blocks)))
        self._say(f"{len(self._blocks)} rows, one by one")
        alone = {row: self._alone(row) for row in range(len(self._blocks))}
        self._judge_failures({row: made for row, made in alone.items() if isinstance(made, StageError)})
        outputs = {row: made[0] for row, made in alone.items() if not isinstance(made, StageError)}
        self._judge_outputs(outputs)
        rows = list(outputs)
        if not rows:
            return []
        self._say(f"{len(rows)} rows, as one batch, twice, and in another order")
        try:
            self._compare(rows, list(outputs.values()))
        except StageError as failed:
            where = f"for a batch of {len(rows)} rows"
            self._report.add(diagnosis.of_error(failed, self._directory, where=where))
            return []
        return rows

    def fresh(self, rows: Sequence[int]) -> list[Any]:
        """Rows as the fleet hands them out: arrays are read-only, unless the model cannot do with that."""
        values = [decode_rows(self._blocks[row])[0] for row in rows]
        return copy.deepcopy(values) if self._writable else values

    def _alone(self, row: int) -> list[Any] | StageError:
        made = self._run([row])
        if not isinstance(made, StageError) or self._writable or _is_refusal(made):
            return made
        self._writable = True
        retried = self._run([row])
        if isinstance(retried, StageError):
            self._writable = False
            return made
        told = diagnosis.of_error(made, self._directory, where=f"for row {row}")
        remedy = f"arrays in rows are read-only: copy before changing them: {told.message}"
        self._report.add(Finding(Fault.MUTATES_INPUT, remedy, told.traceback))
        return retried

    def _run(self, rows: Sequence[int], *, pad_to: int = 0) -> list[Any] | StageError:
        try:
            return self._pipeline.run(self.fresh(rows), pad_to=pad_to)
        except StageError as failed:
            return failed

    def _judge_failures(self, failed: dict[int, StageError]) -> None:
        refused = {row: error for row, error in failed.items() if _is_refusal(error)}
        if refused:
            row, error = next(iter(refused.items()))
            self._report.notes.append(f"{len(refused)} rows are refused: row {row}: {error.error}")
        if len(refused) == len(self._blocks):
            self._report.add(Finding(Fault.RAISES, f"the model refuses every row: {error.error}"))
        guilty = {row: error for row, error in failed.items() if row not in refused}
        if not guilty:
            return
        row, error = next(iter(guilty.items()))
        if len(guilty) > 1 and not isinstance(self._run(list(guilty)), StageError):
            finding = diagnosis.of_rows_that_fail_alone(error, self._directory, row, self._model)
            self._report.add(finding)
            return
        self._report.add(
            *(diagnosis.of_error(e, self._directory, where=f"for row {r} alone") for r, e in guilty.items())
        )

    def _judge_outputs(self, outputs: dict[int, Any]) -> None:
        finite = refuse_non_finite(list(outputs.values()))
        bad = [row for row, output in zip(outputs, finite, strict=True) if isinstance(output, Verdict)]
        if bad:
            message = f"the output of row {bad[0]} holds NaN or infinity, as do {len(bad)} of {len(outputs)}"
            remedy = "mend the model, or let rows fail that way with [run] finite = true"
            self._report.add(Finding(Fault.NOT_FINITE, f"{message}: {remedy}"))
        try:
            encode_rows(list(outputs.values()))
        except InvalidInput as error:
            self._report.add(Finding(Fault.NOT_STORABLE, f"an output cannot be stored: {error.message}"))

    def _look_for_mutation(self, rows: Sequence[int]) -> None:
        given = values = self.fresh(rows)
        before: Any = values
        # What raises here is met again, row by row, and told then.
        with suppress(StageError):
            values = self._pipeline.prepare(given)
            before = attempt(copy.deepcopy, values)
            self._pipeline.forward(values)
        # Values that cannot be copied cannot be held against what they were.
        changed = not isinstance(before, Raised) and difference(before, values) > 0
        if changed or difference(self.fresh(rows), given) > 0:
            what = "forward changes the rows it is given" if changed else "preprocessing changes its rows"
            remedy = "a batch that fails is run again with the same rows: copy before changing them"
            self._report.add(Finding(Fault.MUTATES_INPUT, f"{what}: {remedy}"))

    def _compare(self, rows: list[int], alone: list[Any]) -> None:
        together = self._pipeline.run(self.fresh(rows))
        again = self._pipeline.run(self.fresh(rows))
        repeated = compare(together, again, tolerance=self._tolerance)
        if not repeated.agrees:
            self._report.add(diagnosis.of_chance(repeated, self._model))
            return
        order = random.Random(SEED).sample(range(len(rows)), len(rows))
        shuffled = self._pipeline.run(self.fresh([rows[at] for at in order]))
        in_order = [
            output for _, output in sorted(zip(order, shuffled, strict=True), key=lambda pair: pair[0])
        ]
        found = compare(alone, together, tolerance=self._tolerance)
        if found.agrees:
            found = compare(alone, in_order, tolerance=self._tolerance)
        if found.agrees:
            self._tell_agreement(alone, found)
        else:
            by_padding = self._pipeline.pads and self._agrees_when_padded(rows, together)
            self._report.add(diagnosis.of_comparison(found, by_padding=by_padding, model=self._model))

    def _agrees_when_padded(self, rows: list[int], together: list[Any]) -> bool:
        length = self._pipeline.pad_to(self._pipeline.prepare(self.fresh(rows)))
        padded = [self._pipeline.run(self.fresh([row]), pad_to=length)[0] for row in rows]
        return compare(padded, together, tolerance=self._tolerance).agrees

    def _tell_agreement(self, alone: list[Any], found: Comparison) -> None:
        if len(alone) == 1:
            self._report.notes.append("a single row cannot show whether outputs are mixed up: give several")
        elif all_alike(alone, tolerance=self._tolerance):
            self._report.notes.append(
                "all outputs are alike, so that mixing them up would not show: vary the rows"
            )
        told = f"differ by {found.difference:.1g} at most (rounding)" if found.difference else "are identical"
        self._report.notes.append(f"outputs alone, in a batch and in another order {told}")


def _is_refusal(failed: StageError) -> bool:
    return isinstance(failed.error, RowError | Transient)
