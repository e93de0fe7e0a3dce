"""The stages that a row passes in an engine, each in a thread of its own, overlapping.

    preprocess_jobs -> (line) -> gather_batches -> run_batches -> finish_batches

Every stage announces the rows it is about to touch, so that a crash has a name. Rows that are suspect
already pass the same stages in a probe, with nothing beside them.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from shunter.storage.errors import (
    ObjectNotFound,
    ObjectStoreUnavailable,
    PayloadError,
    SettingsError,
)
from shunter.storage.object_store import ObjectStore
from shunter.storage.outcome import Outcome
from shunter.storage.payload import decode_rows
from shunter.storage.results import Blob, load_block
from shunter.workers.assembly import STORE_RETRY_S, JobRun, assemble, expired, refused, retried
from shunter.workers.batcher import Batch, Row
from shunter.workers.finite import refuse_non_finite
from shunter.workers.isolation import Failure, Isolated, Verdict
from shunter.workers.line import Line
from shunter.workers.messages import PROBE, BatchDone, Begun, Finished, MemoryFull, Probe, Probed, ToHub
from shunter.workers.runner import Inputs, Runner
from shunter.workers.spans import Spans, spans_of

FINISH_QUEUE = 2
"""Batches that may wait for their postprocessing before the model has to."""

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
    """One model's stages; `send` writes to the hub, at once, from any thread."""

    def __init__(
        self,
        line: Line,
        runner: Runner,
        store: ObjectStore,
        *,
        send: Callable[[ToHub], None],
        bunch_rows: int,
        finite: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._line = line
        self._runner = runner
        self._store = store
        self._send = send
        self._bunch_rows = bunch_rows
        self._finite = finite
        self._clock = clock
        self._gathered: queue.SimpleQueue[_Gathered | None] = queue.SimpleQueue()
        self._results: queue.Queue[_Ran | list[Decoded]] = queue.Queue(FINISH_QUEUE)

    def preprocess_jobs(self) -> None:
        """Decode and preprocess jobs as they arrive, and take probes through the model, for ever."""
        while True:
            work = self._line.next_work()
            if isinstance(work, Probe):
                with self._hold(PROBE, work.spans):
                    self._preprocess(self._line.suspects(work))
                    self._line.end_probe()
                self._send(Probed())
            else:
                self._preprocess([row for run in work for row in self._free_rows(run)])

    def gather_batches(self) -> None:
        """Collate each batch and move it to the device, one ahead of the model, until the engine stops."""
        while (batch := self._line.next_batch()) is not None:
            began = self._clock()
            runs, spans = _runs(batch.rows), _spans(batch.rows)
            with self._hold("gather", spans if self._runner.gathers else ()):
                inputs = self._runner.gather([row.value for row in batch.rows], pad_to=batch.rows[0].tokens)
            self._gathered.put(_Gathered(batch, runs, spans, inputs, self._clock() - began))
        self._gathered.put(None)

    def run_batches(self) -> None:
        """Take each batch through the model, until the engine stops."""
        while (gathered := self._gathered.get()) is not None:
            rows = self._still_wanted(gathered)
            if rows:
                self._results.put(self._forward(gathered, rows))
            else:
                self._line.finished()
            self._line.forwarded()

    def finish_batches(self) -> None:
        """Postprocess outputs, and put the jobs together, for ever."""
        while True:
            item = self._results.get()
            if isinstance(item, _Ran):
                self._finish(item)
            else:
                self._settle(item)

    def _decode(self, run: JobRun) -> list[Any]:
        """A job's rows, none if it cannot be run; then its outcome has been reported."""
        job = run.job
        now = self._clock()
        if run.expired(now):
            self._report(run, expired(run))
            return []
        try:
            rows = decode_rows(load_block(self._store, Blob(job.input, job.input_key)))
            if len(rows) != job.rows:
                raise PayloadError(f"the input holds {len(rows)} rows, the job says {job.rows}")
        except (PayloadError, ObjectNotFound) as error:
            self._report(run, refused(run, error.code, error.message))
            return []
        except (ObjectStoreUnavailable, SettingsError) as error:
            self._report(run, retried(run, error.code, error.message, after_s=STORE_RETRY_S, now=now))
            return []
        return rows

    def _free_rows(self, run: JobRun) -> list[Decoded]:
        """A job's rows that may run at once; the guilty have their results, the suspects are kept."""
        rows: list[Decoded] = [(run, index, value) for index, value in enumerate(self._decode(run))]
        if not (rows and (run.guilty or run.withheld)):
            return rows
        guilty: list[Decoded] = [(run, row.index, Failure(row.code, row.message)) for row in run.guilty]
        self._results.put(guilty)
        run.withheld.update((index, rows[index][2]) for index in run.withheld)
        held_up = {index for _, index, _ in guilty}.union(run.withheld)
        return [row for row in rows if row[1] not in held_up]

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
        values = self._runner.preprocess([value for _, _, value in decoded])
        rows: list[Row[JobRun]] = []
        failed: list[Decoded] = []
        now = self._clock()
        for run in dict.fromkeys(run for run, _, _ in decoded):
            run.preprocess_row_s = (now - began) / len(decoded)
        for (run, index, _), value, place in zip(decoded, values, self._runner.places(values), strict=True):
            if isinstance(place, Verdict):
                failed.append((run, index, place))
            else:
                rows.append(Row(run, index, value, now, place.key, place.tokens))
        self._line.add(rows)
        if failed:
            self._results.put(failed)

    def _still_wanted(self, gathered: _Gathered) -> Sequence[Row[JobRun]]:
        now = self._clock()
        for run in gathered.runs:
            if run.expired(now):
                self._report(run, expired(run))
        rows = gathered.batch.rows
        if any(run.ended for run in gathered.runs):
            return [row for row in rows if not row.ticket.ended]
        return rows

    def _forward(self, gathered: _Gathered, rows: Sequence[Row[JobRun]]) -> _Ran:
        began = self._clock()
        whole = len(rows) == len(gathered.batch.rows)
        runs, spans = (gathered.runs, gathered.spans) if whole else (_runs(rows), _spans(rows))
        for run in runs:
            run.began_at = began if run.began_at is None else run.began_at
        with self._hold("forward", spans):
            isolated = self._runner.forward(
                [row.value for row in rows],
                pad_to=rows[0].tokens,
                inputs=gathered.inputs if whole else None,
                announce=lambda part: self._begin_part(rows, part),
                ceiling=self._line.ceiling(gathered.batch),
            )
        self._remember(gathered.batch, isolated)
        return _Ran(gathered, rows, runs, spans, isolated, self._clock() - began)

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
        self._send(_batch_done(ran, postprocess_s=self._clock() - began))
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
        for run, index, result in results:
            run.results[index] = result
            run.remaining -= 1
            if not run.remaining and not run.ended:
                self._report(run, assemble(run, self._store, now=self._clock()))

    def _report(self, run: JobRun, outcome: Outcome) -> None:
        if self._line.end(run):
            self._send(Finished(outcome))
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
        wait_s=batch.wait_s,
        preprocess_s=sum(row.ticket.preprocess_row_s for row in ran.rows) + ran.gathered.gather_s,
        forward_s=ran.forward_s,
        postprocess_s=postprocess_s,
        forwards=ran.isolated.forwards,
        ooms=ran.isolated.ooms,
    )
