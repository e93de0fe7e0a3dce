"""What rows refer to is fetched in the engine, several objects at once, ahead of their turn in the model."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from shunter.storage.errors import InvalidInput, NotFound, ObjectStoreUnavailable, SettingsError
from shunter.storage.reference_reader import ReferenceReader
from shunter.storage.references import replaced, urls_in
from shunter.workers.assembly import STORE_RETRY_S, Decoded, JobRun
from shunter.workers.isolation import Failure, Retry

FETCHES_AT_ONCE = 16

FETCH_TIMEOUT_S = 120.0
"""A file system that stands still must not hold up the model's other jobs for ever."""

FETCHED_ROWS = 64
"""So many rows of a large job are taken at once when they are fetched, and so many more are on their way."""

AHEAD_BYTES = 128 << 20
"""No further fetch begins while so much has been fetched for a large job and not been taken."""


@dataclass(frozen=True, slots=True)
class _Fetching:
    """A row whose objects are on their way."""

    value: Any
    objects: Mapping[str, Future[bytes]]

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        ended = [each for each in self.objects.values() if each.done() and not each.exception()]
        return sum(len(each.result()) for each in ended)


class References:
    """Fetches for one model's jobs; for one thread.

    An object that cannot be had fails its row alone. While its store does not answer, its job is tried
    again, up to `max_attempts` times.
    """

    def __init__(self, reader: ReferenceReader, *, max_attempts: int) -> None:
        self._reader = reader
        self._max_attempts = max_attempts

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(FETCHES_AT_ONCE, thread_name_prefix="fetch")

    def begin(self, row: Decoded) -> Decoded:
        """The row, with what it refers to on its way."""
        run, index, value = row
        urls = dict.fromkeys(urls_in(value)) if run.refers and type(value) in (dict, list) else ()
        if not urls:
            return row
        trusted = run.fetch_from
        objects = {url: self._pool.submit(self._reader.read, url, trusted=trusted) for url in urls}
        return run, index, _Fetching(value, objects)

    def fetched(self, rows: Sequence[Decoded]) -> Sequence[Decoded]:
        """The rows with their objects, waited for; verdicts in the places of those that cannot be had."""
        if not any(run.refers for run, _, _ in rows):
            return rows
        begun = [row if type(row[2]) is _Fetching else self.begin(row) for row in rows]
        return [
            (run, index, self._result(run, value) if type(value) is _Fetching else value)
            for run, index, value in begun
        ]

    def _result(self, run: JobRun, row: _Fetching) -> Any:
        try:
            arrived = {url: each.result(FETCH_TIMEOUT_S) for url, each in row.objects.items()}
            return replaced(row.value, arrived)
        except (InvalidInput, NotFound) as error:
            code = "fetch_refused" if isinstance(error, SettingsError) else error.code
            return Failure(code, error.message)
        except ObjectStoreUnavailable as error:
            return self._retry(run, error.message)
        except TimeoutError:
            return self._retry(run, f"what the row refers to did not come within {FETCH_TIMEOUT_S:.0f} s")

    def _retry(self, run: JobRun, message: str) -> Retry | Failure:
        if run.job.attempts + 1 < self._max_attempts:
            return Retry(STORE_RETRY_S, message)
        return Failure("fetch_failed", message)


class Backlog:
    """Rows of large jobs, taken a bunch at a time; what the next ones refer to is fetched meanwhile."""

    def __init__(self, references: References) -> None:
        self._references = references
        self._rest: deque[Decoded] = deque()
        self._begun: deque[Decoded] = deque()

    def __bool__(self) -> bool:
        return bool(self._rest or self._begun)

    def extend(self, rows: Iterable[Decoded]) -> None:
        """More rows, behind the others."""
        self._rest.extend(rows)

    def take(self, count: int) -> list[Decoded]:
        """The next rows, up to `count`, without those of jobs that have ended meanwhile."""
        run = (self._begun or self._rest)[0][0]
        if run.refers:
            count = min(count, FETCHED_ROWS)
        self._begin(count)
        bunch = [self._begun.popleft() for _ in range(min(count, len(self._begun)))]
        self._begin(FETCHED_ROWS)
        return [row for row in bunch if not row[0].ended]

    def _begin(self, count: int) -> None:
        held = sum(row[2].size for row in self._begun if type(row[2]) is _Fetching)
        while self._rest and len(self._begun) < count and (held < AHEAD_BYTES or not self._begun):
            row = self._rest.popleft()
            self._begun.append(row if row[0].ended else self._references.begin(row))
