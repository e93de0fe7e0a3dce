"""The first stage of an engine: jobs are decoded and preprocessed, and their rows put in line."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import chain, count, repeat
from typing import Any

from shunter.storage.errors import (
    DamagedObject,
    InvalidInput,
    NotFound,
    ObjectStoreUnavailable,
    PayloadError,
    SettingsError,
    ShunterError,
)
from shunter.storage.payload import decode_rows
from shunter.storage.references import MARK
from shunter.storage.scoring.chunk import is_chunk
from shunter.workers.announcements import Announcements
from shunter.workers.assembly import STORE_RETRY_S, Decoded, JobRun, expired, refused, retried
from shunter.workers.batch import Row, new_row
from shunter.workers.chunks import Chunks
from shunter.workers.inputs_ahead import InputsAhead
from shunter.workers.isolation import Failure, Verdict
from shunter.workers.line import Line
from shunter.workers.messages import PROBE, Begun, Probe, Probed
from shunter.workers.references import Backlog, References
from shunter.workers.row_bytes import bytes_in
from shunter.workers.runner import Runner
from shunter.workers.spans import Span, spans_of


class Preparation:
    """Rows that need no model, because they are bad, go to `settle` instead of the line.

    `preprocess` stands in for the runner's own, in processes beside this one; `bunch_rows` are
    preprocessed together. `measures_bytes` for a model whose batches are bounded in bytes.
    """

    def __init__(
        self,
        line: Line,
        runner: Runner,
        announcements: Announcements,
        *,
        inputs: InputsAhead,
        references: References,
        chunks: Chunks,
        settle: Callable[[list[Decoded]], None],
        forward_if_idle: Callable[[], None],
        bunch_rows: int,
        measures_bytes: bool,
        preprocess: Callable[[list[Any]], list[Any]] | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._line = line
        self._runner = runner
        self._announcements = announcements
        self._inputs = inputs
        self._chunks = chunks
        self._settle = settle
        self._forward_if_idle = forward_if_idle
        self._bunch_rows = bunch_rows
        self._measures_bytes = measures_bytes
        self._change = preprocess or runner.preprocess
        self._clock = clock
        self._references = references
        self._backlog = Backlog(references)

    def run(self) -> None:
        """Take jobs as they arrive, and take probes through the model, for ever."""
        while True:
            work = self._line.next_work(rest=bool(self._backlog))
            if isinstance(work, Probe):
                with self._announcements.hold(PROBE, work.spans):
                    self._preprocess(self._line.suspects(work))
                    self._line.wait_for_probe()
                # Told before anything else begins: else the probe would be suspected of what that does.
                self._announcements.send(Probed())
                self._line.end_probe()
            elif work is not None:
                self._begin(work, list(chain.from_iterable(map(self._free_rows, work))))
                self._forward_if_idle()
            if self._backlog and self._line.has_room():
                self._preprocess(self._backlog.take(self._bunch_rows))

    def _decode(self, run: JobRun) -> list[Any]:
        """A job's rows, none if it cannot be run; then its outcome has been reported."""
        job = run.job
        now = self._clock()
        if run.expired(now):
            self._inputs.forget(run.claim)
            self._announcements.ended((run, expired(run)))
            return []
        try:
            if is_chunk(job.input):
                return self._open(run)
            block = self._inputs.take(job)
            run.refers = MARK in block
            rows = decode_rows(block)
            if len(rows) != job.rows:
                raise PayloadError(f"the input holds {len(rows)} rows, the job says {job.rows}")
        except (ObjectStoreUnavailable, SettingsError) as error:
            outcome = retried(run, error.code, error.message, after_s=STORE_RETRY_S, now=now)
            self._announcements.ended((run, outcome))
            return []
        except DamagedObject as error:
            # Another reader, or a moment later, may get it whole; one that lies there damaged ends its job.
            outcome = retried(
                run, error.code, error.message, after_s=STORE_RETRY_S, now=now, counts_attempt=True
            )
            self._announcements.ended((run, outcome))
            return []
        except (PayloadError, NotFound, InvalidInput) as error:
            where = f"{job.input_key}: " if job.input_key and isinstance(error, PayloadError) else ""
            self._announcements.ended((run, refused(run, error.code, f"{where}{error.message}")))
            return []
        return rows

    def _open(self, run: JobRun) -> list[Any]:
        """A chunk's rows; what it raises is no crash, and leaves nothing suspect."""
        try:
            with self._announcements.hold("decode", (Span(run.claim, 0, run.job.rows),)):
                return self._chunks.open(run)
        except ShunterError:
            self._announcements.send(Begun("decode", ()))
            raise

    def _free_rows(self, run: JobRun) -> list[Decoded]:
        """A job's rows that may run at once.

        The guilty have their results, the suspects are kept, and bad rows of a chunk need no model.
        """
        values = self._decode(run)
        rows: list[Decoded] = list(zip(repeat(run), count(), values, strict=False))
        if not values or not (run.guilty or run.withheld or run.carried):
            return rows
        ended = {row.index: Failure(row.code, row.message) for row in run.guilty}
        if _holds_verdicts(values):
            ended = {i: value for i, value in enumerate(values) if isinstance(value, Verdict)} | ended
        if ended:
            self._settle([(run, index, verdict) for index, verdict in ended.items()])
        run.withheld = {index: values[index] for index in run.withheld if index not in ended}
        held_up = ended.keys() | run.withheld.keys()
        return [row for row in rows if row[1] not in held_up] if held_up else rows

    def _begin(self, runs: Sequence[JobRun], decoded: list[Decoded]) -> None:
        """Preprocess these rows; many, and those that are fetched, only as fast as the model takes them."""
        large = self._line.is_large(len(decoded))
        if large and self._runner.preprocesses:
            self._backlog.extend(decoded, large=True)
            return
        if any(run.refers for run in runs):
            self._backlog.extend((row for row in decoded if row[0].refers), large=large)
            decoded = [row for row in decoded if not row[0].refers]
        self._in_bunches(decoded)

    def _preprocess(self, rows: Sequence[Decoded]) -> None:
        decoded = self._references.fetched(rows)
        missing = [row for row in decoded if isinstance(row[2], Verdict)]
        if missing:
            self._settle(missing)
            decoded = [row for row in decoded if not isinstance(row[2], Verdict)]
        self._in_bunches(decoded)

    def _in_bunches(self, decoded: Sequence[Decoded]) -> None:
        for start in range(0, len(decoded), self._bunch_rows):
            bunch = decoded[start : start + self._bunch_rows]
            spans = (
                spans_of((run.claim, index) for run, index, _ in bunch) if self._runner.preprocesses else ()
            )
            with self._announcements.hold("preprocess", spans):
                self._preprocess_bunch(bunch)

    def _preprocess_bunch(self, decoded: Sequence[Decoded]) -> None:
        # Column by column where that will do: rows are many, and each step in Python holds the interpreter.
        began = self._clock()
        runs, indices, given = zip(*decoded, strict=True)
        values = self._change(list(given))
        now = self._clock()
        jobs = set(runs)
        for run in jobs:
            run.preprocess_row_s = (now - began) / len(decoded)
        sizes = (
            map(bytes_in, values)
            if self._measures_bytes or any(run.refers for run in jobs)
            else repeat(0, len(values))
        )
        if not self._runner.preprocesses:
            rest = repeat(now), repeat(None), repeat(0), sizes
            self._line.add(list(map(new_row, zip(runs, indices, values, *rest, strict=False))))
            return
        rows: list[Row[JobRun]] = []
        failed: list[Decoded] = []
        places = self._runner.places(values)
        for run, index, value, place, size in zip(runs, indices, values, places, sizes, strict=True):
            if isinstance(place, Verdict):
                failed.append((run, index, place))
            else:
                rows.append(new_row((run, index, value, now, place.key, place.length, size)))
        self._line.add(rows)
        if failed:
            self._settle(failed)


def _holds_verdicts(values: Sequence[Any]) -> bool:
    return any(issubclass(kind, Verdict) for kind in set(map(type, values)))
