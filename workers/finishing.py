"""The last stage of an engine: outputs are postprocessed, and jobs put together from their rows."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from shunter.storage.object_store import ObjectStore
from shunter.workers.announcements import Announcements
from shunter.workers.assembly import Carried, Decoded, JobRun, assemble_all
from shunter.workers.chunks import Chunks
from shunter.workers.finite import refuse_non_finite
from shunter.workers.forwarding import Ran
from shunter.workers.line import Line
from shunter.workers.messages import BatchDone, Costs, ToHub
from shunter.workers.runner import Runner

FINISH_QUEUE = 2
"""Batches that may wait for their postprocessing before the model has to."""

WRITE_QUEUE = 1
"""Chunks that may wait for being written before the batches of the next ones have to."""

FEW_ROWS = 8
"""To put together the outputs of so few takes less time than to wake a thread for it."""

COSTS_INTERVAL_S = 1.0
"""What was learnt about batch sizes is told so often, while batches run."""

_Stretch = tuple[JobRun, int, Sequence[Any]]
"""Results of one job, from a row on."""


class Finishing:
    """Takes batches that have been through the model, and rows that have ended without it."""

    def __init__(
        self,
        line: Line,
        runner: Runner,
        store: ObjectStore,
        announcements: Announcements,
        *,
        chunks: Chunks,
        finite: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._line = line
        self._runner = runner
        self._store = store
        self._announcements = announcements
        self._chunks = chunks
        self._finite = finite
        self._clock = clock
        self._tell_costs_at = 0.0
        self._results: queue.Queue[Ran | list[Decoded]] = queue.Queue(FINISH_QUEUE)
        self._written: queue.Queue[tuple[JobRun, Carried]] = queue.Queue(WRITE_QUEUE)
        self._finishing = threading.Lock()

    def put(self, rows: list[Decoded]) -> None:
        """Hand over rows that need no model; waits while too many do. From any thread."""
        self._results.put(rows)

    def take(self, ran: Ran, *, idle: bool) -> None:
        """Have a batch finished while the model goes on; at once if that is quick and the model idle."""
        idle = idle and self._results.empty()
        if idle and self._is_quick(ran) and self._finishing.acquire(blocking=False):
            try:
                self._finish(ran)
            finally:
                self._finishing.release()
        else:
            self._announcements.send()
            self._results.put(ran)

    def run(self) -> None:
        """Finish what is handed over, for ever."""
        while True:
            item = self._results.get()
            with self._finishing:
                if isinstance(item, Ran):
                    self._finish(item)
                else:
                    self._settle((run, index, [result]) for run, index, result in item)

    def write(self) -> None:
        """Write the files of chunks that are whole, beside the batches of the next ones, for ever."""
        while True:
            run, carried = self._written.get()
            if run.ended:
                # Dropped meanwhile: nobody wants its files.
                continue
            self._announcements.ended((run, self._chunks.assemble(run, carried, now=self._clock())))

    def _is_quick(self, ran: Ran) -> bool:
        """Whether finishing is a matter of a few rows, of jobs of a few rows, and of no code of the model."""
        few = all(run.carried is None and run.job.rows <= FEW_ROWS for run in ran.runs)
        return few and len(ran.rows) <= FEW_ROWS and not self._runner.postprocesses

    def _finish(self, ran: Ran) -> None:
        began = self._clock()
        results = ran.isolated.results
        if self._finite:
            results = refuse_non_finite(results)
        with self._announcements.hold("postprocess", ran.spans if self._runner.postprocesses else ()):
            results = self._runner.postprocess(results)
        self._line.finished()
        now = self._clock()
        done = _batch_done(ran, postprocess_s=now - began)
        told: list[ToHub] = [done]
        _tally(done, ran)
        if now >= self._tell_costs_at:
            self._tell_costs_at = now + COSTS_INTERVAL_S
            told.append(Costs(self._line.costs()))
        self._settle(_stretches(ran, results), besides=told)

    def _settle(self, stretches: Iterable[_Stretch], *, besides: Sequence[ToHub] = ()) -> None:
        whole, chunks = [], []
        for run, first, results in stretches:
            run.results[first : first + len(results)] = results
            run.remaining -= len(results)
            if run.remaining or run.ended:
                continue
            if run.carried is None:
                whole.append(run)
            else:
                chunks.append((run, run.carried))
        outcomes = assemble_all(whole, self._store, now=self._clock())
        self._announcements.ended(*zip(whole, outcomes, strict=True), besides=besides)
        for chunk in chunks:
            self._written.put(chunk)


def _stretches(ran: Ran, results: Sequence[Any]) -> Iterator[_Stretch]:
    """The results by the jobs they are of."""
    start = 0
    for span in ran.spans:
        stop = start + span.stop - span.start
        yield ran.rows[start].ticket, span.start, results[start:stop]
        start = stop


def _tally(done: BatchDone, ran: Ran) -> None:
    """Tell the chunks among a batch's jobs of their part in it."""
    for run in ran.runs:
        if run.carried is not None:
            run.carried.tally.add(done, rows=sum(s.stop - s.start for s in ran.spans if s.claim == run.claim))


def _batch_done(ran: Ran, *, postprocess_s: float) -> BatchDone:
    batch = ran.batch
    return BatchDone(
        rows=len(ran.rows),
        jobs=len(ran.runs),
        reason=batch.reason.value,
        full_rows=batch.limit,
        tokens=batch.tokens,
        padded_tokens=batch.padded_tokens,
        wait_s=batch.wait_s,
        preprocess_s=sum(row.ticket.preprocess_row_s for row in ran.rows) + ran.gather_s,
        forward_s=ran.forward_s,
        postprocess_s=postprocess_s,
        forwards=ran.isolated.forwards,
        ooms=ran.isolated.ooms,
        trial=batch.trial,
        trial_failed=ran.isolated.trial_failed,
    )
