"""What a finished job came to: its outputs in row order, and the rows that have none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from shunter.storage.errors import InvalidInput, JobFailed, RowsFailed, UnknownJob
from shunter.storage.job import JobState
from shunter.storage.outcome import RowFailure

OnFailure = Literal["raise", "none"]

OBJECT_BYTES, ROW_BYTES, FAILURE_BYTES = 500, 64, 250
"""What results, each of their rows and each failure take in Python beside their contents, as measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResults:
    """The outputs of a finished job or item, None for the rows in `failures`."""

    id: str
    state: JobState
    outputs: Sequence[object]
    failures: tuple[RowFailure, ...]
    encoded_bytes: int = 0
    """What the outputs took as they were read."""

    @property
    def size(self) -> int:
        """Roughly what it takes in memory, in bytes."""
        failures = sum(FAILURE_BYTES + len(failure.message) for failure in self.failures)
        return OBJECT_BYTES + self.encoded_bytes + ROW_BYTES * len(self.outputs) + failures

    def take(self, errors: OnFailure = "raise") -> list[object]:
        """The outputs; with "raise", JobFailed if there is none and RowsFailed if some are missing."""
        if errors not in ("raise", "none"):
            raise InvalidInput(f'errors is {errors!r}: it must be "raise" or "none"', field="errors")
        if errors == "raise" and self.failures:
            raise self.failure()
        return list(self.outputs)

    def failure(self) -> JobFailed | RowsFailed:
        """The exception that says what failed; there must be failures."""
        if self.state is JobState.SUCCEEDED:
            return RowsFailed(self.id, self.outputs, self.failures)
        first = self.failures[0]
        return JobFailed(self.id, self.state, f"{first.code}: {first.message}")

    def failure_of(self, index: int) -> RowFailure | None:
        """Why a row has no output, None if it has one."""
        return next((failure for failure in self.failures if failure.index == index), None)

    def item(self, index: int) -> JobResults:
        """One row of it, as a job of one row; UnknownJob if it has fewer."""
        if index >= len(self.outputs):
            raise UnknownJob(f"{self.id}.{index}")
        failure = self.failure_of(index)
        state = self.state
        if state in (JobState.SUCCEEDED, JobState.FAILED):
            state = JobState.SUCCEEDED if failure is None else JobState.FAILED
        return JobResults(
            id=f"{self.id}.{index}",
            state=state,
            outputs=[self.outputs[index]],
            failures=() if failure is None else (replace(failure, index=0),),
        )
