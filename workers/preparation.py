"""The first stage of an engine: jobs are decoded and preprocessed, and their rows put in line."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import count, repeat
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
from shunter.storage.payload_alike import decode_alike
from shunter.storage.references import MARK
from shunter.storage.scoring.chunk import is_chunk
from shunter.workers.announcements import Announcements
from shunter.workers.assembly import STORE_RETRY_S, Decoded, JobRun, expired, refused, retried
from shunter.workers.batch import Row, new_row
from shunter.workers.chunks import Chunks
from shunter.workers.inputs_ahead import InputsAhead
from shunter.workers.isolation import Failure, Verdict
from shunter.workers.line import Line
from shunter.workers.messages import PROBE, Begun, Probe, Probed, Run
from shunter.workers.references import Backlog, References
from shunter.workers.row_bytes import bytes_in
from shunter.workers.runner import Runner
from shunter.workers.spans import Span, spans_of

FEW_ROWS = 8
"""To decode so few takes less time than to wake a thread for it."""


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

    def accept(self, arrived: Sequence[Run]) -> None:
        """Jobs arrive; if they are quick and the engine idle, the caller's thread puts them in line."""
        runs = self._line.accept(arrived, quick=self._are_quick(arrived))
        for run in runs:
            self._put_in_line(run, self._decode(run))
        if runs:
            self._forward_if_idle()

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
                self._begin(work)
                self._forward_if_idle()
            if self._backlog and self._line.has_room():
                self._preprocess(self._backlog.take(self._bunch_rows))

    def _are_quick(self, arrived: Sequence[Run]) -> bool:
        """Whether these are a few rows that are here, are not suspect, and need no code of the model."""
        few = sum(run.job.rows for run in arrived) <= FEW_ROWS
        needs = self._runner.preprocesses or self._measures_bytes
        return few and not needs and all(map(_is_plain, arrived))

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

    def _begin(self, runs: Sequence[JobRun]) -> None:
        """Preprocess the rows of these jobs that may run at once."""
        alike = _decode_alike(runs)
        if alike is not None:
            self._begin_rows([(run, 0, value) for run, value in zip(runs, alike, strict=True)])
            return
        decoded: list[Decoded] = []
        for run in runs:
            values = self._decode(run)
            if self._goes_as_it_is(run, values):
                self._put_in_line(run, values)
            else:
                decoded += self._free_rows(run, values)
        self._begin_rows(decoded)

    def _goes_as_it_is(self, run: JobRun, values: list[Any]) -> bool:
        """Whether no row of a large job needs anything before its batch."""
        if not self._line.is_large(len(values)) or self._runner.preprocesses or self._measures_bytes:
            return False
        bad = any(issubclass(kind, Verdict) for kind in set(map(type, values)))
        return not (bad or run.guilty or run.withheld or run.refers)

    def _put_in_line(self, run: JobRun, values: list[Any]) -> None:
        """All at once, and no row by itself: what runs in Python for every row keeps the model waiting."""
        for start in range(0, len(values), self._bunch_rows):
            bunch, now = values[start : start + self._bunch_rows], self._clock()
            fields = zip(repeat(run), count(start), bunch, repeat(now), repeat(None), repeat(0), repeat(0))
            self._line.add(list(map(new_row, fields)))

    def _free_rows(self, run: JobRun, values: list[Any]) -> list[Decoded]:
        """The rows of a job that may run at once.

        The guilty have their results, the suspects are kept, and bad rows of a chunk need no model.
        """
        if not values or not (run.guilty or run.withheld or run.carried):
            return [(run, index, value) for index, value in enumerate(values)]
        ended = {index: value for index, value in enumerate(values) if isinstance(value, Verdict)}
        ended.update((row.index, Failure(row.code, row.message)) for row in run.guilty)
        if ended:
            self._settle([(run, index, verdict) for index, verdict in ended.items()])
        run.withheld = {index: values[index] for index in run.withheld if index not in ended}
        held_up = ended.keys() | run.withheld.keys()
        return [(run, index, value) for index, value in enumerate(values) if index not in held_up]

    def _begin_rows(self, decoded: list[Decoded]) -> None:
        """Preprocess these rows; many, and those that are fetched, only as fast as the model takes them."""
        large = self._line.is_large(len(decoded))
        waits = large and self._runner.preprocesses
        self._backlog.extend((row for row in decoded if waits or row[0].refers), large=large)
        at_once = [row for row in decoded if not (waits or row[0].refers)]
        if at_once:
            self._preprocess(at_once)

    def _preprocess(self, rows: Sequence[Decoded]) -> None:
        decoded = self._references.fetched(rows)
        missing = [row for row in decoded if isinstance(row[2], Verdict)]
        if missing:
            self._settle(missing)
            decoded = [row for row in decoded if not isinstance(row[2], Verdict)]
        for start in range(0, len(decoded), self._bunch_rows):
            bunch = decoded[start : start + self._bunch_rows]
            spans = (
                spans_of((run.claim, index) for run, index, _ in bunch) if self._runner.preprocesses else ()
            )
            with self._announcements.hold("preprocess", spans):
                self._preprocess_bunch(bunch)

    def _preprocess_bunch(self, decoded: Sequence[Decoded]) -> None:
        began = self._clock()
        values = self._change([value for _, _, value in decoded])
        now = self._clock()
        for run in dict.fromkeys(run for run, _, _ in decoded):
            run.preprocess_row_s = (now - began) / len(decoded)
        rows: list[Row[JobRun]] = []
        failed: list[Decoded] = []
        for (run, index, _), value, place in zip(decoded, values, self._runner.places(values), strict=True):
            if isinstance(place, Verdict):
                failed.append((run, index, place))
            else:
                size = bytes_in(value) if self._measures_bytes or run.refers else 0
                rows.append(new_row((run, index, value, now, place.key, place.length, size)))
        self._line.add(rows)
        if failed:
            self._settle(failed)


def _decode_alike(runs: Sequence[JobRun]) -> list[Any] | None:
    """The only row of each of several jobs, if all are alike and nothing else is to be seen to; else None."""
    if len(runs) < 2 or any(run.job.rows != 1 or run.deadline is not None for run in runs):
        return None
    blocks = list(filter(None, map(_whole_block, runs)))
    return decode_alike(blocks) if len(blocks) == len(runs) else None


def _is_plain(run: Run) -> bool:
    block = _whole_block(run)
    return block is not None and not is_chunk(block) and MARK not in block


def _whole_block(run: Run | JobRun) -> bytes | None:
    """The rows of a job that are here, if none of them is suspect."""
    return None if run.guilty or run.withheld else run.job.input
