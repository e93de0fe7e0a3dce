"""What rows refer to is fetched in the engine, several objects at once, ahead of their turn in the model."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any, Protocol

from shunter.storage.errors import InvalidInput, NotFound, ObjectStoreUnavailable, SettingsError
from shunter.storage.job import Priority
from shunter.storage.reference_reader import MAX_OBJECT_BYTES, FetchTooLarge
from shunter.storage.references import replaced, urls_in
from shunter.workers.assembly import STORE_RETRY_S, Decoded, JobRun
from shunter.workers.isolation import Failure, Retry

FETCHES_AT_ONCE = 16

FETCH_TIMEOUT_S = 120.0
"""A file system that stands still must not hold up the model's other jobs for ever."""

FETCHED_ROWS = 64
"""So many rows are taken at once when they are fetched, and so many more are on their way."""

AHEAD_BYTES = 128 << 20
"""No further fetch begins while what is on its way, or has come and not been taken, is so much."""

MAX_ROW_BYTES = 256 << 20
"""The objects of one row are in memory together: one that refers to more fails."""

SIZES_KEPT = 64
"""An object on its way counts as the largest of so many before it; the first ones as the largest allowed."""


class Fetching:
    """A row whose objects are on their way."""

    def __init__(self, value: Any, read: Callable[..., bytes], pool: Executor, urls: Iterable[str]) -> None:
        self._value = value
        self._read = read
        self._left = MAX_ROW_BYTES
        self._admitted: dict[str, int] = {}
        self._lock = threading.Lock()
        self._objects: Mapping[str, Future[bytes]] = {url: pool.submit(self._fetch, url) for url in urls}

    def held(self, expected: int) -> int:
        """What has arrived, and `expected` for each object that has not."""
        return sum(_size(each) if each.done() else expected for each in self._objects.values())

    def sizes(self) -> list[int]:
        """Of the objects that have arrived, 0 for those that cannot be had."""
        return [_size(each) for each in self._objects.values() if each.done()]

    def row(self) -> Any:
        """The row with its objects, waited for; raises what reading them raised, and TimeoutError."""
        arrived = {url: each.result(FETCH_TIMEOUT_S) for url, each in self._objects.items()}
        return replaced(self._value, arrived)

    def _fetch(self, url: str) -> bytes:
        self._admit(url, 0)
        return self._read(url, admit=partial(self._admit, url))

    def _admit(self, url: str, size: int) -> None:
        with self._lock:
            self._left += self._admitted.get(url, 0) - size
            self._admitted[url] = size
            if self._left < 0:
                raise FetchTooLarge(f"the row refers to more than {MAX_ROW_BYTES} bytes: split it")


class Reads(Protocol):
    """What reads an object, from any thread; `ReferenceReader` does."""

    def read(self, url: str, *, trusted: Sequence[str] = (), admit: Callable[[int], object]) -> bytes:
        """An object below one of the allowed or of the `trusted` prefixes; `admit` is told its size first."""


class References:
    """Fetches for one model's jobs; for one thread.

    An object that cannot be had fails its row alone. While its store does not answer, its job is tried
    again, up to `max_attempts` times.
    """

    def __init__(self, reader: Reads, *, max_attempts: int) -> None:
        self._reader = reader
        self._max_attempts = max_attempts
        self._sizes: deque[int] = deque(maxlen=SIZES_KEPT)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(FETCHES_AT_ONCE, thread_name_prefix="fetch")

    @property
    def expected_bytes(self) -> int:
        """What an object that is on its way is taken to have."""
        return max(self._sizes, default=MAX_OBJECT_BYTES)

    def begin(self, row: Decoded) -> Decoded:
        """The row, with what it refers to on its way."""
        run, index, value = row
        urls = dict.fromkeys(urls_in(value)) if run.refers and type(value) in (dict, list) else ()
        if not urls:
            return row
        read = partial(self._reader.read, trusted=run.fetch_from)
        return run, index, Fetching(value, read, self._pool, urls)

    def fetched(self, rows: Sequence[Decoded]) -> Sequence[Decoded]:
        """The rows with their objects, waited for; verdicts in the places of those that cannot be had."""
        if not any(run.refers for run, _, _ in rows):
            return rows
        begun = [row if type(row[2]) is Fetching else self.begin(row) for row in rows]
        return [
            (run, index, self._result(run, value) if type(value) is Fetching else value)
            for run, index, value in begun
        ]

    def _result(self, run: JobRun, row: Fetching) -> Any:
        try:
            whole = row.row()
        except (InvalidInput, NotFound) as error:
            code = "fetch_refused" if isinstance(error, SettingsError) else error.code
            return Failure(code, error.message)
        except ObjectStoreUnavailable as error:
            return self._retry(run, error.message)
        except TimeoutError:
            return self._retry(run, f"what the row refers to did not come within {FETCH_TIMEOUT_S:.0f} s")
        finally:
            self._sizes.extend(row.sizes())
        return whole

    def _retry(self, run: JobRun, message: str) -> Retry | Failure:
        if run.job.attempts + 1 < self._max_attempts:
            return Retry(STORE_RETRY_S, message)
        return Failure("fetch_failed", message)


class Backlog:
    """Rows taken a bunch at a time, of small jobs first; what the next ones refer to is fetched meanwhile.

    Small jobs go by their classes, the most urgent first.
    """

    def __init__(self, references: References, *, ahead_bytes: int = AHEAD_BYTES) -> None:
        self._references = references
        self._ahead_bytes = ahead_bytes
        self._small: Mapping[Priority, deque[Decoded]] = {priority: deque() for priority in sorted(Priority)}
        self._large: deque[Decoded] = deque()
        self._begun: deque[Decoded] = deque()

    def __bool__(self) -> bool:
        return bool(self._begun or self._rest())

    def extend(self, rows: Iterable[Decoded], *, large: bool) -> None:
        """More rows, behind the others of large jobs, or of small ones."""
        for row in rows:
            (self._large if large else self._small[row[0].job.priority]).append(row)

    def take(self, count: int) -> list[Decoded]:
        """The next rows, up to `count`, without those of jobs that have ended meanwhile."""
        run = (self._begun or self._rest())[0][0]
        if run.refers:
            count = min(count, FETCHED_ROWS)
        self._begin(count)
        bunch = [self._begun.popleft() for _ in range(min(count, len(self._begun)))]
        self._begin(FETCHED_ROWS)
        return [row for row in bunch if not row[0].ended]

    def _begin(self, count: int) -> None:
        expected = self._references.expected_bytes
        held = sum(_held(row, expected) for row in self._begun)
        while len(self._begun) < count and (rest := self._rest()):
            if held >= self._ahead_bytes and self._begun:
                return
            row = rest.popleft()
            self._begun.append(row if row[0].ended else self._references.begin(row))
            held += _held(self._begun[-1], expected)

    def _rest(self) -> deque[Decoded]:
        return next(filter(None, self._small.values()), self._large)


def _held(row: Decoded, expected: int) -> int:
    return row[2].held(expected) if type(row[2]) is Fetching else 0


def _size(object: Future[bytes]) -> int:
    """Of one that has come, or cannot be had."""
    return 0 if object.exception() else len(object.result())
