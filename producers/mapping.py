"""Rows in, outputs out, in order: jobs are submitted ahead, and never more than a window of rows is out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Literal
from uuid import UUID

from shunter.producers.backend import Backend
from shunter.producers.outputs import JobResults
from shunter.producers.submission import Accepted
from shunter.storage.errors import AlreadyFinished, InvalidInput, RowsFailed, Unavailable, UnknownJob

DEFAULT_WINDOW = 8192
"""Rows under way at once: enough for several full batches on several workers."""

BURSTS = 4
"""A window is submitted in so many bursts, so that one is being packed while others run."""

LONGEST_GATHER_S = 0.5
"""Rows of a slow source are submitted after so long, even if their burst is not full."""

OnRowFailure = Literal["raise", "return"]


class MappedRows:
    """One `Client.map`: an iterator over outputs; closing it cancels what is still under way."""

    def __init__(
        self,
        backend: Backend,
        submit: Callable[[list[object]], Sequence[Accepted]],
        *,
        window: int,
        errors: OnRowFailure,
    ) -> None:
        _check_window(window)
        if errors not in ("raise", "return"):
            raise InvalidInput(f'errors is {errors!r}: it must be "raise" or "return"', field="errors")
        self._backend = backend
        self._submit = submit
        self._window = window
        self._burst = max(1, window // BURSTS)
        self._errors = errors
        self._watch = backend.watch()
        self._pending: deque[Accepted] = deque()
        self._finished: set[UUID] = set()
        self._under_way = 0
        self._taken = 0
        self._exhausted = False
        self._numbers = count()

    def run(self, rows: Iterable[object]) -> Generator[object, None, None]:
        """The outputs of `rows`, in their order."""
        source = iter(rows)
        try:
            while self._refill(source) or self._pending:
                self._look(wait=self._full)
                if self._pending and self._pending[0].id in self._finished:
                    yield from self._take_first()
        finally:
            self._watch.close()
            self._cancel()

    @property
    def _full(self) -> bool:
        """Whether nothing can be submitted now."""
        return self._exhausted or self._under_way + self._burst > self._window

    def _refill(self, source: Iterator[object]) -> bool:
        """Submit one burst if there is room; whether there may be more to come."""
        if not self._full:
            burst = _gather(source, self._burst)
            self._exhausted = not burst
            if burst:
                accepted = self._submitted(burst)
                self._pending.extend(accepted)
                self._under_way += len(burst)
                self._watch.add([job.id for job in accepted])
        return not self._exhausted

    def _submitted(self, burst: list[object]) -> Sequence[Accepted]:
        try:
            return self._submit(burst)
        except InvalidInput as error:
            error.add_note(f"its rows are counted from row {self._taken} of those given to map")
            raise
        finally:
            self._taken += len(burst)

    def _look(self, *, wait: bool) -> None:
        """Learn which jobs have finished; wait for one if the next output needs it."""
        ready = not self._pending or self._pending[0].id in self._finished
        self._finished.update(self._watch.next(None if wait and not ready else 0))

    def _take_first(self) -> Iterator[object]:
        job = self._pending[0]
        results = self._backend.results_of([job.id]).get(job.id)
        if results is None:
            raise UnknownJob(job.id)
        # Taken off before the first output goes out, for what has finished needs no cancelling.
        self._pending.popleft()
        self._finished.discard(job.id)
        yield from self._outputs(results)
        self._under_way -= job.rows

    def _outputs(self, results: JobResults) -> Iterator[object]:
        failures = {failure.index: failure for failure in results.failures}
        for index, output in enumerate(results.outputs):
            number = next(self._numbers)
            failure = failures.get(index)
            if failure is not None and self._errors == "raise":
                error = results.failure()
                if isinstance(error, RowsFailed):
                    error.add_note(f"in the rows given to map, this is row {number}")
                raise error
            yield output if failure is None else replace(failure, index=number)

    def _cancel(self) -> None:
        for job in self._pending:
            with suppress(AlreadyFinished, UnknownJob, Unavailable):
                self._backend.cancel(job.id)


def _check_window(window: object) -> None:
    if not isinstance(window, int) or isinstance(window, bool) or window < 1:
        raise InvalidInput(f"window is {window!r}: it must be a positive number of rows", field="window")


def _gather(source: Iterator[object], size: int) -> list[object]:
    """The next rows: `size` of them, or those that came in time; none when the source has ended."""
    gathered: list[object] = []
    began = time.monotonic()
    for row in source:
        gathered.append(row)
        if len(gathered) == size or time.monotonic() - began > LONGEST_GATHER_S:
            break
    return gathered
