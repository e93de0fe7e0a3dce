"""What became of a job: decided as data by the workers, written by the repository, read by the client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from shunter.storage.errors import shorten
from shunter.storage.job import MOVES, JobState, Move
from shunter.storage.results import Blob

_BECOMES = {legal.move: legal.target for legal in MOVES if legal.source is JobState.RUNNING}


@dataclass(frozen=True, slots=True)
class RowFailure:
    """One row that has no output, and why."""

    index: int
    code: str
    message: str

    def document(self) -> dict[str, Any]:
        """The JSON form, as stored and as served."""
        # Model code chose these: one NUL in them, and Postgres would refuse every outcome settled with it.
        return {"index": self.index, "code": shorten(str(self.code)), "message": shorten(str(self.message))}


class BatchNote(NamedTuple):
    """A batch that some rows of a job were in; `number` counts the batches of one engine."""

    number: int
    rows: int
    reason: str


class Outcome(NamedTuple):
    """How one claimed run of a job ended; settling it is one guarded UPDATE.

    `forward_age_s` is how many seconds ago its first forward began, None if it never did;
    `retry_in_s` is the wait before the next run, for moves that go back to the queue. `batches` are some of
    those that its rows were in: told to people, and not stored.

    A tuple, since every job has one, which crosses the pipe: it is made in a fifth of a dataclass' time.
    """

    id: UUID
    epoch: int
    move: Move
    output: Blob | None = None
    rows_succeeded: int = 0
    rows_failed: int = 0
    failures: tuple[RowFailure, ...] = ()
    error: dict[str, Any] | None = None
    forward_age_s: float | None = None
    retry_in_s: float = 0.0
    counts_attempt: bool = False
    batches: tuple[BatchNote, ...] = ()

    @property
    def state(self) -> JobState:
        """What the job becomes; ValueError for a move that no running job makes."""
        state = _BECOMES.get(self.move)
        if state is None:
            raise ValueError(f"no running job makes the move {self.move}")
        return state


@dataclass(frozen=True, slots=True)
class StoredResult:
    """The result of a job as stored: the output block, or None, and the rows that failed."""

    state: JobState
    rows: int
    output: Blob | None
    failures: tuple[RowFailure, ...]
    error: dict[str, Any] | None

    def row_failures(self) -> tuple[RowFailure, ...]:
        """Every row without an output; those of a job that ended as a whole share its error."""
        if self.failures or self.state is JobState.SUCCEEDED:
            return self.failures
        error = self.error or {"code": self.state.value, "message": f"the job was {self.state.value}"}
        return tuple(RowFailure(index, error["code"], error["message"]) for index in range(self.rows))


def error_document(error: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """An error's JSON form, as stored and as served."""
    if error is None:
        return None
    return {key: shorten(value) if isinstance(value, str) else value for key, value in error.items()}


def failed(id: UUID, epoch: int, *, code: str, message: str, rows: int) -> Outcome:
    """The outcome of a job of which no row could succeed, for one common reason."""
    return Outcome(
        id=id,
        epoch=epoch,
        move=Move.FAIL,
        rows_failed=rows,
        error={"code": code, "message": shorten(message)},
    )
