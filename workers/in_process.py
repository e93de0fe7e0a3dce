"""One model in this very process, for tests: the batcher, runner and outcomes of an engine, without threads.

A row that kills its process kills this one: only an engine of its own can survive that.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path

from shunter.storage.job import ClaimedJob
from shunter.storage.model_config import ModelConfig
from shunter.storage.object_store import ObjectStore
from shunter.storage.outcome import BatchNote, Outcome
from shunter.storage.payload import decode_rows
from shunter.storage.reference_reader import ReferenceReader
from shunter.storage.references import MARK
from shunter.storage.results import Blob, load_block
from shunter.storage.settings import fetch_prefixes
from shunter.workers import retry
from shunter.workers.assembly import Decoded, JobRun, assemble
from shunter.workers.batch import Batch, Row
from shunter.workers.batcher import Batcher
from shunter.workers.finite import refuse_non_finite
from shunter.workers.isolation import Verdict
from shunter.workers.loaders import load_model
from shunter.workers.messages import Run
from shunter.workers.references import References
from shunter.workers.row_bytes import bytes_in
from shunter.workers.runner import Runner


class InProcessEngine:
    """Runs claimed jobs through a loaded model; `batches` are the rows of each batch so far."""

    def __init__(self, model: object, config: ModelConfig, store: ObjectStore) -> None:
        self._runner = Runner(model, dtype=config.run.dtype)
        self._config = config
        self._store = store
        self._references = References(
            ReferenceReader(fetch_prefixes(store.url)), max_attempts=config.run.max_attempts
        )
        self._batcher: Batcher[JobRun] = Batcher(config.batching)
        self.batches: list[int] = []

    @classmethod
    def load(cls, directory: Path, config: ModelConfig, store: ObjectStore) -> InProcessEngine:
        """The engine of a version directory, on the CPU; raises ModelLoadError."""
        return cls(load_model(directory, config, "cpu"), config, store)

    def run(self, jobs: Sequence[ClaimedJob]) -> list[Outcome]:
        """The outcome of each job; their rows share batches."""
        runs = [JobRun(Run(job), now=time.monotonic()) for job in jobs]
        self._preprocess([row for run in runs for row in self._rows(run)])
        self._batcher.drain()
        while (batch := self._batcher.next_batch(time.monotonic(), idle=True)) is not None:
            self._forward(batch)
        return [self._outcome(run) for run in runs]

    def _rows(self, run: JobRun) -> list[Decoded]:
        """The rows that need the model; those whose objects cannot be had have their results."""
        block = load_block(self._store, Blob(run.job.input, run.job.input_key))
        run.refers = MARK in block
        rows = self._references.fetched([(run, index, row) for index, row in enumerate(decode_rows(block))])
        run.results = [row if isinstance(row, Verdict) else None for _, _, row in rows]
        return [row for row in rows if not isinstance(row[2], Verdict)]

    def _preprocess(self, rows: Sequence[Decoded]) -> None:
        values = self._runner.preprocess([row for _, _, row in rows])
        now = time.monotonic()
        for (run, index, _), value, place in zip(rows, values, self._runner.places(values), strict=True):
            if isinstance(place, Verdict):
                run.results[index] = place
            else:
                size = bytes_in(value) if self._config.batching.max_bytes else 0
                self._batcher.add([Row(run, index, value, now, place.key, place.length, size)])

    def _forward(self, batch: Batch[JobRun]) -> None:
        self.batches.append(len(batch.rows))
        note = BatchNote(len(self.batches), len(batch.rows), batch.reason.value)
        for run in dict.fromkeys(row.ticket for row in batch.rows):
            run.began_at = run.began_at or time.monotonic()
            run.ran_in(note)
        made = self._runner.forward([row.value for row in batch.rows], pad_to=batch.pad_to)
        results = refuse_non_finite(made.results) if self._config.run.finite else made.results
        for row, result in zip(batch.rows, self._runner.postprocess(results), strict=True):
            row.ticket.results[row.index] = result

    def _outcome(self, run: JobRun) -> Outcome:
        return retry.limit(
            assemble(run, self._store, now=time.monotonic()),
            attempts=run.job.attempts,
            max_attempts=self._config.run.max_attempts,
            rows=run.job.rows,
            chance=random.random(),
        )
