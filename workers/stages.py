"""The stages that a row passes in an engine, each in a thread of its own, overlapping.

    preprocess_jobs -> (line) -> gather_batches -> run_batches -> finish_batches

Every stage announces the claims it is about to touch, so that a crash has a name.
"""

from __future__ import annotations

import queue
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
from shunter.storage.job import Claim
from shunter.storage.object_store import ObjectStore
from shunter.storage.outcome import Outcome
from shunter.storage.payload import decode_rows
from shunter.storage.results import Blob, load_block
from shunter.storage.scoring.chunk import is_chunk
from shunter.storage.signature import Signature
from shunter.workers.assembly import STORE_RETRY_S, JobRun, assemble, expired, refused, retried
from shunter.workers.batcher import Batch, Row
from shunter.workers.chunks import Chunks
from shunter.workers.isolation import Isolated, Verdict
from shunter.workers.line import Line
from shunter.workers.messages import BatchDone, Begun, Finished, ToHub
from shunter.workers.runner import Inputs, Runner

FINISH_QUEUE = 2
"""Batches that may wait for their postprocessing before the model has to."""

UNDECLARED = Signature()

Decoded = tuple[JobRun, int, Any]
"""A row before it has a place in line: its job, its index, its value."""


@dataclass(frozen=True, slots=True)
class _Gathered:
    batch: Batch[JobRun]
    runs: Sequence[JobRun]
    inputs: Inputs | None
    gather_s: float


@dataclass(frozen=True, slots=True)
class _Ran:
    gathered: _Gathered
    rows: Sequence[Row[JobRun]]
    runs: Sequence[JobRun]
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
        signature: Signature = UNDECLARED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._line = line
        self._runner = runner
        self._store = store
        self._chunks = Chunks(signature)
        self._send = send
        self._bunch_rows = bunch_rows
        self._clock = clock
        self._gathered: queue.SimpleQueue[_Gathered | None] = queue.SimpleQueue()
        self._results: queue.Queue[_Ran | list[Decoded]] = queue.Queue(FINISH_QUEUE)

    def preprocess_jobs(self) -> None:
        """Decode and preprocess jobs as they arrive, for ever."""
        while True:
            bunch = self._line.next_jobs()
            rows = [(run, *row) for run in bunch for row in self._good(run, self._decode(run))]
            with self._hold("preprocess", bunch if self._runner.preprocesses else ()):
                for start in range(0, len(rows), self._bunch_rows):
                    self._preprocess(rows[start : start + self._bunch_rows])

    def gather_batches(self) -> None:
        """Collate each batch and move it to the device, one ahead of the model, until the engine stops."""
        while (batch := self._line.next_batch()) is not None:
            began = self._clock()
            runs = _runs(batch.rows)
            with self._hold("gather", runs if self._runner.gathers else ()):
                inputs = self._runner.gather([row.value for row in batch.rows], pad_to=batch.rows[0].tokens)
            self._gathered.put(_Gathered(batch, runs, inputs, self._clock() - began))
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
            if is_chunk(job.input):
                return self._chunks.open(run)
            rows = decode_rows(load_block(self._store, Blob(job.input, job.input_key)))
            if len(rows) != job.rows:
                raise PayloadError(f"the input holds {len(rows)} rows, the job says {job.rows}")
        except (ObjectStoreUnavailable, SettingsError) as error:
            self._report(run, retried(run, error.code, error.message, after_s=STORE_RETRY_S, now=now))
            return []
        except (PayloadError, NotFound, InvalidInput) as error:
            self._report(run, refused(run, error.code, error.message))
            return []
        return rows

    def _good(self, run: JobRun, values: list[Any]) -> Iterable[tuple[int, Any]]:
        """The rows of a job with their indices; those of a chunk that were bad already need no model."""
        if run.carried is None:
            return enumerate(values)
        bad = [(run, index, value) for index, value in enumerate(values) if isinstance(value, Verdict)]
        if bad:
            self._results.put(bad)
        return [(index, value) for index, value in enumerate(values) if not isinstance(value, Verdict)]

    def _preprocess(self, decoded: list[Decoded]) -> None:
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
        runs = gathered.runs if whole else _runs(rows)
        for run in runs:
            run.began_at = began if run.began_at is None else run.began_at
        with self._hold("forward", runs):
            isolated = self._runner.forward(
                [row.value for row in rows],
                pad_to=rows[0].tokens,
                inputs=gathered.inputs if whole else None,
                announce=lambda part: self._begin_part(rows, part),
            )
        if isolated.ceiling is not None:
            self._line.lower_ceiling(gathered.batch, isolated.ceiling)
        return _Ran(gathered, rows, runs, isolated, self._clock() - began)

    def _begin_part(self, rows: Sequence[Row[JobRun]], part: Sequence[int]) -> None:
        """Name the suspects anew when only a part of a batch is run."""
        if len(part) < len(rows):
            self._send(Begun("forward", _claims(_runs(rows[index] for index in part))))

    def _finish(self, ran: _Ran) -> None:
        began = self._clock()
        with self._hold("postprocess", ran.runs if self._runner.postprocesses else ()):
            results = self._runner.postprocess(ran.isolated.results)
        self._line.finished()
        self._send(_batch_done(ran, postprocess_s=self._clock() - began))
        self._settle((row.ticket, row.index, result) for row, result in zip(ran.rows, results, strict=True))

    @contextmanager
    def _hold(self, stage: str, runs: Sequence[JobRun]) -> Iterator[None]:
        """Tell the hub whose rows a stage holds while the block runs; if that crashes, they stay suspect."""
        if runs:
            self._send(Begun(stage, _claims(runs)))
        yield
        if runs:
            self._send(Begun(stage, ()))

    def _settle(self, results: Iterable[Decoded]) -> None:
        for run, index, result in results:
            run.results[index] = result
            run.remaining -= 1
            if not run.remaining and not run.ended:
                self._report(run, self._assemble(run))

    def _assemble(self, run: JobRun) -> Outcome:
        if run.carried is None:
            return assemble(run, self._store, now=self._clock())
        return self._chunks.assemble(run, run.carried, now=self._clock())

    def _report(self, run: JobRun, outcome: Outcome) -> None:
        if self._line.end(run):
            self._send(Finished(outcome))
            self._line.forget(run)


def _runs(rows: Iterable[Row[JobRun]]) -> list[JobRun]:
    return list(dict.fromkeys(row.ticket for row in rows))


def _claims(runs: Iterable[JobRun]) -> tuple[Claim, ...]:
    return tuple(run.claim for run in runs)


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
    )
