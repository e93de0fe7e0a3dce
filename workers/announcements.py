"""What an engine's stages tell the hub: the rows they hold, and how jobs have ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from shunter.storage.outcome import Outcome
from shunter.workers.assembly import JobRun
from shunter.workers.batch import Row
from shunter.workers.line import Line
from shunter.workers.messages import Begun, Finished, ToHub
from shunter.workers.spans import Spans, spans_of


class Announcements:
    """`send` writes a message to the hub, at once; from any thread."""

    def __init__(self, line: Line, send: Callable[[ToHub], None]) -> None:
        self._line = line
        self.send = send

    @contextmanager
    def hold(self, stage: str, spans: Spans) -> Iterator[None]:
        """Tell the hub which rows a stage holds while the block runs; if that crashes, they stay suspect."""
        if spans:
            self.send(Begun(stage, spans))
        yield
        if spans:
            self.send(Begun(stage, ()))

    def ended(self, *endings: tuple[JobRun, Outcome]) -> None:
        """Tell the outcomes of these jobs, except of those that ended otherwise before."""
        ours = [(run, outcome) for run, outcome in endings if self._line.end(run)]
        if ours:
            self.send(Finished(tuple(outcome for _, outcome in ours)))
        for run, _ in ours:
            self._line.forget(run)


def row_spans(rows: Iterable[Row[JobRun]]) -> Spans:
    """Rows by the jobs they are of."""
    return spans_of((row.ticket.claim, row.index) for row in rows)
