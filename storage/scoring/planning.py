"""Where the chunks of a file begin and end: decided once, from a place on, and stored by whoever asked."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from itertools import islice
from typing import BinaryIO

from pyarrow.parquet import ParquetFile

from shunter.storage.scoring.chunk import Place, Span
from shunter.storage.scoring.formats import CSV, PARQUET, compression_of
from shunter.storage.scoring.parquet import open_parquet, row_bytes
from shunter.storage.scoring.sources import Source, open_source
from shunter.storage.scoring.spec import Spec
from shunter.storage.scoring.text import MAX_RECORD_BYTES, Records
from shunter.storage.scoring.text_stream import text_stream
from shunter.storage.scoring.watermark import Numbers, rows_past, stretches

CHUNK_BYTES = 16 << 20
"""A chunk's rows pass through an engine's memory at once."""

TARGET_S = 2.0
"""Seconds of a worker's time for a chunk: what a kill can cost, and far above what a job costs."""

UNMEASURED_BATCHES, MAX_CHUNK_ROWS = 16, 65_536
"""A chunk is so many batches of a model that nobody has measured yet, and never more rows."""

Stage = Callable[[str, bytes], None]
"""Keeps bytes among the scoring's parts, under a key."""


def chunk_rows(max_rows: int, rows_per_s: float) -> int:
    """Rows to a chunk for a model of this batch size and measured rate of one worker, 0 if unknown.

    In batches and powers of two, so that the noise of a measurement seldom changes it.
    """
    batches = max(1.0, rows_per_s * TARGET_S / max_rows) if rows_per_s else UNMEASURED_BATCHES
    return max(1, min(MAX_CHUNK_ROWS, max_rows << round(math.log2(batches))))


class FilePlanner:
    """Cuts one file after another; what it keeps open between two calls only saves time."""

    def __init__(self) -> None:
        self._text: _OpenText | None = None

    def plan(
        self, spec: Spec, source: Source, place: Place, *, limit: int, number: int, stage: Stage
    ) -> tuple[list[Span], Place]:
        """Up to `limit` chunks from a place on, the first of them chunk `number`, and the place behind them.

        Raises UnreadableInput, InputChanged, NotFound, Unavailable.
        """
        if spec.watermark is not None:
            return _plan_past(spec, source, place, limit)
        if spec.input_format == PARQUET:
            return _plan_parquet(spec, source, place, limit)
        text = self._open(spec, source, place)
        spans: list[Span] = []
        for index in range(number, number + limit):
            span = text.cut(spec.chunk_rows, place, f"input-{index:06}", stage)
            if span is None:
                self.close()
                return spans, Place(place.file + 1)
            spans.append(span)
            place = replace(place, row=place.row + span.rows, byte=text.position)
        return spans, place

    def close(self) -> None:
        """Let go of the file."""
        if self._text is not None:
            self._text.close()
            self._text = None

    def _open(self, spec: Spec, source: Source, place: Place) -> _OpenText:
        known = self._text
        if known is None or known.source != source or known.position != place.byte:
            self.close()
            self._text = known = _OpenText(source, spec.input_format, place.byte)
        return known


def _plan_parquet(spec: Spec, source: Source, place: Place, limit: int) -> tuple[list[Span], Place]:
    with closing(open_parquet(source)) as parquet:
        total, widest = parquet.metadata.num_rows, _widest(parquet, spec)
    size = min(spec.chunk_rows, widest)
    spans: list[Span] = []
    row = place.row
    while row < total and len(spans) < limit:
        spans.append(Span(file=place.file, rows=min(size, total - row), first_row=row))
        row += spans[-1].rows
    return spans, Place(place.file, row) if row < total else Place(place.file + 1)


def _plan_past(spec: Spec, source: Source, place: Place, limit: int) -> tuple[list[Span], Place]:
    """The same, of rows past a mark: a span reaches from the first to the last of some of them."""
    watermark = spec.watermark
    assert watermark is not None, "only a scoring with a watermark is planned so; this is a bug"
    with closing(open_parquet(source)) as parquet:
        widest = _widest(parquet, spec)
    found = rows_past(source, watermark.column, watermark.after, first=place.row)
    cut = stretches((numbers for numbers, _ in found), most=spec.chunk_rows, widest=widest)
    with closing(found):
        spans = [_span_of(place.file, numbers) for numbers in islice(cut, limit)]
    if len(spans) < limit:
        return spans, Place(place.file + 1)
    return spans, Place(place.file, spans[-1].first_row + spans[-1].rows)


def _span_of(file: int, numbers: Numbers) -> Span:
    first, last = int(numbers[0]), int(numbers[-1])
    return Span(file=file, rows=last - first + 1, first_row=first, passing=len(numbers))


def _widest(parquet: ParquetFile, spec: Spec) -> int:
    """Rows of a file that may pass through an engine's memory at once."""
    return max(1, int(CHUNK_BYTES / max(row_bytes(parquet, spec.needed), 1.0)))


class _OpenText:
    """A text file with its records from some byte on, decompressed if need be."""

    def __init__(self, source: Source, format: str, start: int) -> None:
        self.source = source
        self._file: BinaryIO = open_source(source)
        self._compression = compression_of(source.url)
        self._records = Records(text_stream(self._file, source, start=start), format, start=start)
        self._each = iter(self._records)
        if start == 0 and format == CSV:
            with suppress(StopIteration):
                next(self._each)  # the header

    @property
    def position(self) -> int:
        """The byte at which the next chunk begins."""
        return self._records.position

    def cut(self, rows: int, place: Place, key: str, stage: Stage) -> Span | None:
        """The next chunk; None at the end of the file."""
        start = self.position
        count, kept = 0, []
        for record in self._each:
            count += 1
            if self._compression is not None:
                kept.append(record)
            if count >= rows or self.position - start >= CHUNK_BYTES:
                break
        if not count:
            return None
        span = Span(file=place.file, rows=count, first_row=place.row, start=start, stop=self.position)
        if self._compression is None:
            return span
        stage(key, b"".join(_whole_line(record) for record in kept))
        return replace(span, staged=key)

    def close(self) -> None:
        self._file.close()


def _whole_line(record: bytes | None) -> bytes:
    """A record as it is staged; one that is too large stays so, at the least that is."""
    line = b"x" * (MAX_RECORD_BYTES + 1) if record is None else record
    return line if line.endswith(b"\n") else line + b"\n"
