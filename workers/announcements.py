"""What an engine's stages tell the hub: the rows they hold, and how jobs have ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import compress, groupby

from shunter.storage.job import Claim
from shunter.storage.outcome import Outcome
from shunter.workers.assembly import JobRun
from shunter.workers.batch import INDEX, TICKET, Row
from shunter.workers.line import Line
from shunter.workers.messages import Begun, Finished, ToHub
from shunter.workers.spans import Span, Spans, spans_of


class Announcements:
    """`write` sends messages to the hub together and at once; from any thread.

    A message by itself wakes the hub's thread once more, so what is said at one moment is said together: that
    a stage has put its rows down may wait for what is said next.
    """

    def __init__(self, line: Line, write: Callable[[Sequence[ToHub]], None]) -> None:
        self._line = line
        self._write = write
        self._saying = threading.Lock()
        self._unsaid: list[ToHub] = []

    def send(self, *messages: ToHub) -> None:
        """Tell the hub, before this returns, after whatever is unsaid."""
        # Within the lock: a stage must not end after its next beginning, which another thread may tell.
        with self._saying:
            unsaid, self._unsaid = self._unsaid, []
            if unsaid or messages:
                self._write([*unsaid, *messages])

    @contextmanager
    def hold(self, stage: str, spans: Spans, *, goes_on: bool = False) -> Iterator[None]:
        """Tell the hub which rows a stage holds while the block runs; if that crashes, they stay suspect.

        If it `goes_on`, the end of the stage is told with the next `send`, which must follow at once.
        """
        if spans:
            self.send(Begun(stage, spans))
        yield
        if spans:
            with self._saying:
                self._unsaid.append(Begun(stage, ()))
            if not goes_on:
                self.send()

    def ended(self, *endings: tuple[JobRun, Outcome], besides: Sequence[ToHub] = ()) -> None:
        """Tell outcomes, except of jobs that ended otherwise before, and what is to be said besides."""
        ours = list(compress(endings, self._line.end([run for run, _ in endings])))
        finished = [Finished(tuple([outcome for _, outcome in ours]))] if ours else []
        if besides or finished:
            self.send(*besides, *finished)
        self._line.forget([run for run, _ in ours])


def row_spans(rows: Iterable[Row[JobRun]]) -> Spans:
    """Rows by the jobs they are of."""
    return tuple(span for run, own in groupby(rows, TICKET) for span in _spans(run.claim, map(INDEX, own)))


def _spans(claim: Claim, rows: Iterable[int]) -> Spans:
    indices = list(rows)
    first, past = indices[0], indices[0] + len(indices)
    # Mostly they follow one another, which is seen at once.
    if indices == list(range(first, past)):
        return (Span(claim, first, past),)
    return spans_of((claim, index) for index in indices)
