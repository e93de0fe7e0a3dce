"""The middle stages of an engine: batches are gathered, one ahead, and taken through the model."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from shunter.storage.outcome import BatchNote
from shunter.workers.announcements import Announcements, row_spans
from shunter.workers.assembly import JobRun, expired
from shunter.workers.batch import TICKET, VALUE, Batch, CloseReason, Row
from shunter.workers.device import Inputs
from shunter.workers.inputs_ahead import InputsAhead
from shunter.workers.isolation import Isolated
from shunter.workers.line import Late, Line
from shunter.workers.messages import Begun, MemoryFits, MemoryFull
from shunter.workers.runner import Runner
from shunter.workers.spans import Spans


@dataclass(frozen=True, slots=True)
class _Closed:
    """A batch for the model; `gather_s` is None until it is gathered."""

    batch: Batch[JobRun]
    runs: Sequence[JobRun]
    spans: Spans
    inputs: Inputs | None = None
    gather_s: float | None = None


@dataclass(frozen=True, slots=True)
class Ran:
    """A batch that has been through the model: the rows still wanted, and their results."""

    batch: Batch[JobRun]
    rows: Sequence[Row[JobRun]]
    runs: Sequence[JobRun]
    spans: Spans
    isolated: Isolated
    gather_s: float
    forward_s: float


class Finish(Protocol):
    """What takes over from the model."""

    def __call__(self, ran: Ran, *, idle: bool) -> None:
        """Have a batch finished; `idle` if the model has nothing else to do meanwhile."""


class Forwarding:
    """`finish` takes what has been through the model, and whether the model is idle; it may make it wait."""

    def __init__(
        self,
        line: Line,
        runner: Runner,
        announcements: Announcements,
        *,
        inputs: InputsAhead,
        finish: Finish,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._line = line
        self._runner = runner
        self._announcements = announcements
        self._inputs = inputs
        self._finish = finish
        self._clock = clock
        self._closed: queue.SimpleQueue[_Closed | None] = queue.SimpleQueue()
        self._batches = 0
        self._gathering = threading.Lock()

    def forward_if_idle(self) -> None:
        """Have the model's thread gather what there is and take it through, if it has nothing to do."""
        batch = self._line.batch_if_idle()
        if batch is not None:
            self._closed.put(_closed(batch))

    def gather(self) -> None:
        """Collate each batch and move it to the device, one ahead of the model, until the engine stops."""
        while (batch := self._line.next_batch()) is not None:
            if isinstance(batch, Late):
                for run in batch.runs:
                    self._inputs.forget(run.claim)
                    self._announcements.ended((run, expired(run)))
                continue
            self._closed.put(self._gather(batch))
        self._closed.put(None)

    def run(self) -> None:
        """Take each batch through the model, until the engine stops."""
        while (closed := self._closed.get()) is not None:
            urgent = self._line.overtake(closed.batch)
            if urgent is not None:
                closed = _closed(urgent)
            self._line.begun()
            rows = self._still_wanted(closed)
            if rows:
                ran = self._forward(closed, rows)
                self._finish(ran, idle=self._line.forwarded())
            else:
                self._announcements.send()
                self._line.finished()
                self._line.forwarded()

    def _gather(self, batch: Batch[JobRun]) -> _Closed:
        closed = _closed(batch)
        with self._announcements.hold("gather", closed.spans if self._runner.gathers else ()):
            return self._gathered(closed)

    def _gathered(self, closed: _Closed) -> _Closed:
        began = self._clock()
        values = list(map(VALUE, closed.batch.rows))
        # A model's collate need not bear being called by two threads.
        with self._gathering:
            inputs = self._runner.gather(values, pad_to=closed.batch.pad_to)
        return replace(closed, inputs=inputs, gather_s=self._clock() - began)

    def _still_wanted(self, closed: _Closed) -> Sequence[Row[JobRun]]:
        now = self._clock()
        for run in closed.runs:
            if run.expired(now, least_s=closed.batch.least_s):
                self._announcements.ended((run, expired(run)))
        rows = closed.batch.rows
        if any(run.ended for run in closed.runs):
            return [row for row in rows if not row.ticket.ended]
        return rows

    def _forward(self, closed: _Closed, rows: Sequence[Row[JobRun]]) -> Ran:
        batch, began = closed.batch, self._clock()
        whole = len(rows) == len(batch.rows)
        runs, spans = (closed.runs, closed.spans) if whole else (_runs(rows), row_spans(rows))
        self._batches += 1
        note = BatchNote(self._batches, len(rows), batch.reason.value)
        for run in runs:
            run.began_at = began if run.began_at is None else run.began_at
            run.ran_in(note)
        with self._announcements.hold("forward", spans, goes_on=True):
            if whole and closed.gather_s is None:
                closed, began = self._gathered(closed), self._clock()
            isolated = self._runner.forward(
                list(map(VALUE, rows)),
                pad_to=batch.pad_to,
                inputs=closed.inputs if whole else None,
                announce=lambda part: self._begin_part(rows, part),
                ceiling=self._line.ceiling(batch),
                trial=batch.trial and whole,
            )
        forward_s = self._clock() - began
        self._remember(batch, isolated)
        if whole and isolated.forwards == 1 and batch.reason is not CloseReason.ALONE:
            raised = self._line.measured(batch, forward_s)
            if raised is not None:
                self._announcements.send(MemoryFits(raised))
        return Ran(batch, rows, runs, spans, isolated, closed.gather_s or 0.0, forward_s)

    def _remember(self, batch: Batch[JobRun], isolated: Isolated) -> None:
        """Tell the hub what does not fit in memory, so that no later engine has to find out."""
        if isolated.trial_failed:
            self._line.trial_failed(batch)
        if isolated.ceiling is not None:
            ceiling = self._line.lower_ceiling(batch, isolated.ceiling)
            if ceiling is not None:
                self._announcements.send(MemoryFull(ceiling))

    def _begin_part(self, rows: Sequence[Row[JobRun]], part: Sequence[int]) -> None:
        """Name the suspects anew when only a part of a batch is run."""
        if len(part) < len(rows):
            self._announcements.send(Begun("forward", row_spans(rows[index] for index in part)))


def _closed(batch: Batch[JobRun]) -> _Closed:
    return _Closed(batch, _runs(batch.rows), row_spans(batch.rows))


def _runs(rows: Iterable[Row[JobRun]]) -> list[JobRun]:
    return list(dict.fromkeys(map(TICKET, rows)))
