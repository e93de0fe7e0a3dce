"""The stages that a row passes in an engine, each in a thread of its own, overlapping.

    preprocess_jobs -> (line) -> gather_batches -> run_batches -> finish_batches

Every stage announces the rows it is about to touch, so that a crash has a name. Rows that are suspect
already pass the same stages in a probe, with nothing beside them.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from shunter.storage.errors import (
    InvalidInput,
    NotFound,
    ObjectStoreUnavailable,
    PayloadError,
    SettingsError,
)
from shunter.storage.object_store import ObjectStore
from shunter.storage.outcome import BatchNote, Outcome
from shunter.storage.payload import decode_rows
from shunter.storage.scoring.chunk import is_chunk
from shunter.storage.signature import Signature
from shunter.workers.assembly import STORE_RETRY_S, JobRun, assemble, expired, refused, retried
from shunter.workers.batch import Batch, CloseReason, Row
from shunter.workers.chunks import Chunks
from shunter.workers.device import Inputs
from shunter.workers.finite import refuse_non_finite
from shunter.workers.inputs_ahead import InputsAhead
from shunter.workers.isolation import Failure, Isolated, Verdict
from shunter.workers.line import Late, Line
from shunter.workers.messages import (
    PROBE,
    BatchDone,
    Begun,
    Costs,
    Finished,
    MemoryFull,
    Probe,
    Probed,
    ToHub,
)
from shunter.workers.runner import Runner
from shunter.workers.spans import Span, Spans, spans_of

FINISH_QUEUE = 2
"""Batches that may wait for their postprocessing before the model has to."""

FEW_ROWS = 8
"""To put together the outputs of so few takes less time than to wake a thread for it."""

COSTS_INTERVAL_S = 1.0
"""What was learnt about batch sizes is told so often, while batches run."""
UNDECLARED = Signature()

Decoded = tuple[JobRun, int, Any]
"""A row before it has a place in line: its job, its index, its value."""


@dataclass(frozen=True, slots=True)
class _Gathered:
    batch: Batch[JobRun]
    runs: Sequence[JobRun]
    spans: Spans
    inputs: Inputs | None
    gather_s: float


@dataclass(frozen=True, slots=True)
class _Ran:
    gathered: _Gathered
    rows: Sequence[Row[JobRun]]
    runs: Sequence[JobRun]
    spans: Spans
    isolated: Isolated
    forward_s: float


class Stages:
    """One model's stages; `send` writes to the hub, at once, from any thread.

    `preprocess` stands in for the runner's own, in processes beside this one.
    """

    def __init__(
        self,
        line: Line,
        runner: Runner,
        store: ObjectStore,
        *,
        inputs: InputsAhead,
        send: Callable[[ToHub], None],
        bunch_rows: int,
        preprocess: Callable[[list[Any]], list[Any]] | None = None,
        finite: bool = False,
        signature: Signature = UNDECLARED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._line = line
        self._runner = runner
        self._store = store
        self._inputs = inputs
        self._chunks = Chunks(signature)
        self._send = send
        self._bunch_rows = bunch_rows
        self._change = preprocess or runner.preprocess
        self._finite = finite
        self._clock = clock
        self._gathered: queue.SimpleQueue[_Gathered | None] = queue.SimpleQueue()
        self._tell_costs_at = 0.0
        self._batches = 0
        self._results: queue.Queue[_Ran | list[Decoded]] = queue.Queue(FINISH_QUEUE)
        self._gathering, self._finishing = threading.Lock(), threading.Lock()

    def preprocess_jobs(self) -> None:
        """Decode and preprocess jobs as they arrive, and take probes through the model, for ever."""
        while True:
            work = self._line.next_work()
            if isinstance(work, Probe):
                with self._hold(PROBE, work.spans):
                    self._preprocess(self._line.suspects(work))
                    self._line.wait_for_probe()
                self._send(Probed())
                # Only now, so that nothing begins while the hub believes that the suspects are in hand.
                self._line.end_probe()
            else:
                self._preprocess([row for run in work for row in self._free_rows(run)])
                batch = self._line.batch_if_idle()
                if batch is not None:
                    self._gathered.put(self._gather(batch))

    def gather_batches(self) -> None:
        """Collate each batch and move it to the device, one ahead of the model, until the engine stops."""
        while (batch := self._line.next_batch()) is not None:
            if isinstance(batch, Late):
                for run in batch.runs:
                    self._inputs.forget(run.claim)
                    self._report((run, expired(run)))
                continue
            self._gathered.put(self._gather(batch))
        self._gathered.put(None)

    def run_batches(self) -> None:
        """Take each batch through the model, until the engine stops."""
        while (gathered := self._gathered.get()) is not None:
            urgent = self._line.overtake(gathered.batch)
            if urgent is not None:
                gathered = self._gather(urgent)
            rows = self._still_wanted(gathered)
            if rows:
                self._finish_soon(self._forward(gathered, rows))
            else:
                self._line.finished()
                self._line.forwarded()

    def finish_batches(self) -> None:
        """Postprocess outputs, and put the jobs together, for ever."""
        while True:
            item = self._results.get()
            with self._finishing:
                if isinstance(item, _Ran):
                    self._finish(item)
                else:
                    self._settle(item)

    def _gather(self, batch: Batch[JobRun]) -> _Gathered:
        # One at a time, by whatever thread: the hub knows of one bunch of suspects for each stage.
        with self._gathering:
            began = self._clock()
            runs, spans = _runs(batch.rows), _spans(batch.rows)
            with self._hold("gather", spans if self._runner.gathers else ()):
                inputs = self._runner.gather([row.value for row in batch.rows], pad_to=batch.pad_to)
            return _Gathered(batch, runs, spans, inputs, self._clock() - began)

    def _finish_soon(self, ran: _Ran) -> None:
        """Have a batch finished while the model goes on; at once if that is quick and the model idle."""
        idle = self._line.forwarded() and self._results.empty()
        if idle and self._is_quick(ran) and self._finishing.acquire(blocking=False):
            try:
                self._finish(ran)
            finally:
                self._finishing.release()
        else:
            self._results.put(ran)

    def _is_quick(self, ran: _Ran) -> bool:
        """Whether finishing is a matter of a few rows, and of no code of the model."""
        few = len(ran.rows) <= FEW_ROWS and not any(run.carried for run in ran.runs)
        return few and not self._runner.postprocesses

    def _decode(self, run: JobRun) -> list[Any]:
        """A job's rows, none if it cannot be run; then its outcome has been reported."""
        job = run.job
        now = self._clock()
        if run.expired(now):
            self._inputs.forget(run.claim)
            self._report((run, expired(run)))
            return []
        try:
            if is_chunk(job.input):
                with self._hold("decode", (Span(run.claim, 0, job.rows),)):
                    return self._chunks.open(run)
            rows = decode_rows(self._inputs.take(job))
            if len(rows) != job.rows:
                raise PayloadError(f"the input holds {len(rows)} rows, the job says {job.rows}")
        except (ObjectStoreUnavailable, SettingsError) as error:
            self._report((run, retried(run, error.code, error.message, after_s=STORE_RETRY_S, now=now)))
            return []
        except (PayloadError, NotFound, InvalidInput) as error:
            self._report((run, refused(run, error.code, error.message)))
            return []
        return rows

    def _free_rows(self, run: JobRun) -> list[Decoded]:
        """A job's rows that may run at once.

        The guilty have their results, the suspects are kept, and bad rows of a chunk need no model.
        """
        values = self._decode(run)
        if not values or not (run.guilty or run.withheld or run.carried):
            return [(run, index, value) for index, value in enumerate(values)]
        ended = {index: value for index, value in enumerate(values) if isinstance(value, Verdict)}
        ended.update((row.index, Failure(row.code, row.message)) for row in run.guilty)
        if ended:
            self._results.put([(run, index, verdict) for index, verdict in ended.items()])
        run.withheld = {index: values[index] for index in run.withheld if index not in ended}
        held_up = ended.keys() | run.withheld.keys()
        return [(run, index, value) for index, value in enumerate(values) if index not in held_up]

    def _preprocess(self, decoded: list[Decoded]) -> None:
        for start in range(0, len(decoded), self._bunch_rows):
            bunch = decoded[start : start + self._bunch_rows]
            spans = (
                spans_of((run.claim, index) for run, index, _ in bunch) if self._runner.preprocesses else ()
            )
            with self._hold("preprocess", spans):
                self._preprocess_bunch(bunch)

    def _preprocess_bunch(self, decoded: list[Decoded]) -> None:
        began = self._clock()
        values = self._change([value for _, _, value in decoded])
        rows: list[Row[JobRun]] = []
        failed: list[Decoded] = []
        now = self._clock()
        for run in dict.fromkeys(run for run, _, _ in decoded):
            run.preprocess_row_s = (now - began) / len(decoded)
        for (run, index, _), value, place in zip(decoded, values, self._runner.places(values), strict=True):
            if isinstance(place, Verdict):
                failed.append((run, index, place))
            else:
                rows.append(Row(run, index, value, now, place.key, place.length))
        self._line.add(rows)
        if failed:
            self._results.put(failed)

    def _still_wanted(self, gathered: _Gathered) -> Sequence[Row[JobRun]]:
        now = self._clock()
        for run in gathered.runs:
            if run.expired(now, least_s=gathered.batch.least_s):
                self._report((run, expired(run)))
        rows = gathered.batch.rows
        if any(run.ended for run in gathered.runs):
            return [row for row in rows if not row.ticket.ended]
        return rows

    def _forward(self, gathered: _Gathered, rows: Sequence[Row[JobRun]]) -> _Ran:
        began = self._clock()
        whole = len(rows) == len(gathered.batch.rows)
        runs, spans = (gathered.runs, gathered.spans) if whole else (_runs(rows), _spans(rows))
        self._batches += 1
        note = BatchNote(self._batches, len(rows), gathered.batch.reason.value)
        for run in runs:
            run.began_at = began if run.began_at is None else run.began_at
            run.ran_in(note)
        with self._hold("forward", spans):
            isolated = self._runner.forward(
                [row.value for row in rows],
                pad_to=gathered.batch.pad_to,
                inputs=gathered.inputs if whole else None,
                announce=lambda part: self._begin_part(rows, part),
                ceiling=self._line.ceiling(gathered.batch),
            )
        forward_s = self._clock() - began
        self._remember(gathered.batch, isolated)
        if whole and isolated.forwards == 1 and gathered.batch.reason is not CloseReason.ALONE:
            self._line.measured(gathered.batch, forward_s)
        return _Ran(gathered, rows, runs, spans, isolated, forward_s)

    def _remember(self, batch: Batch[JobRun], isolated: Isolated) -> None:
        """Tell the hub what does not fit in memory, so that no later engine has to find out."""
        if isolated.ceiling is not None:
            ceiling = self._line.lower_ceiling(batch, isolated.ceiling)
            if ceiling is not None:
                self._send(MemoryFull(ceiling))

    def _begin_part(self, rows: Sequence[Row[JobRun]], part: Sequence[int]) -> None:
        """Name the suspects anew when only a part of a batch is run."""
        if len(part) < len(rows):
            self._send(Begun("forward", _spans(rows[index] for index in part)))

    def _finish(self, ran: _Ran) -> None:
        began = self._clock()
        results = ran.isolated.results
        if self._finite:
            results = refuse_non_finite(results)
        with self._hold("postprocess", ran.spans if self._runner.postprocesses else ()):
            results = self._runner.postprocess(results)
        self._line.finished()
        now = self._clock()
        self._send(_batch_done(ran, postprocess_s=now - began))
        if now >= self._tell_costs_at:
            self._tell_costs_at = now + COSTS_INTERVAL_S
            self._send(Costs(self._line.costs()))
        self._settle((row.ticket, row.index, result) for row, result in zip(ran.rows, results, strict=True))

    @contextmanager
    def _hold(self, stage: str, spans: Spans) -> Iterator[None]:
        """Tell the hub which rows a stage holds while the block runs; if that crashes, they stay suspect."""
        if spans:
            self._send(Begun(stage, spans))
        yield
        if spans:
            self._send(Begun(stage, ()))

    def _settle(self, results: Iterable[Decoded]) -> None:
        whole = []
        for run, index, result in results:
            run.results[index] = result
            run.remaining -= 1
            if not run.remaining and not run.ended:
                whole.append((run, self._assemble(run)))
        self._report(*whole)

    def _assemble(self, run: JobRun) -> Outcome:
        if run.carried is None:
            return assemble(run, self._store, now=self._clock())
        return self._chunks.assemble(run, run.carried, now=self._clock())

    def _report(self, *endings: tuple[JobRun, Outcome]) -> None:
        ours = [(run, outcome) for run, outcome in endings if self._line.end(run)]
        if ours:
            self._send(Finished(tuple(outcome for _, outcome in ours)))
        for run, _ in ours:
            self._line.forget(run)


def _runs(rows: Iterable[Row[JobRun]]) -> list[JobRun]:
    return list(dict.fromkeys(row.ticket for row in rows))


def _spans(rows: Iterable[Row[JobRun]]) -> Spans:
    return spans_of((row.ticket.claim, row.index) for row in rows)


def _batch_done(ran: _Ran, *, postprocess_s: float) -> BatchDone:
    batch = ran.gathered.batch
    return BatchDone(
        rows=len(ran.rows),
        jobs=len(ran.runs),
        reason=batch.reason.value,
        full_rows=batch.limit,
        tokens=batch.tokens,
        padded_tokens=batch.padded_tokens,
        wait_s=batch.wait_s,
        preprocess_s=sum(row.ticket.preprocess_row_s for row in ran.rows) + ran.gathered.gather_s,
        forward_s=ran.forward_s,
        postprocess_s=postprocess_s,
        forwards=ran.isolated.forwards,
        ooms=ran.isolated.ooms,
    )
