"""Concurrent submits of one process share a commit and a push; a lone call never waits for another.

    insert -> push -> sync

Jobs are pushed as soon as others see them, so that a worker is at them while the disk is still writing. A
crash of Postgres in between undoes the jobs and all that was made of them; no call has returned by then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import psycopg2

from shunter.storage import failpoints
from shunter.storage.errors import DatabaseUnavailable, InvalidInput
from shunter.storage.job import NewJob
from shunter.storage.job_repository import JobRepository

Publish = Callable[[Sequence[NewJob], datetime], None]
"""Pushes the envelopes of committed jobs; must not raise because Redis is silent."""


@dataclass(eq=False, slots=True)
class _Waiting:
    job: NewJob
    turn: threading.Lock
    """Released when the job is done with, or when its thread is the next to commit."""
    is_next: bool = False
    done: bool = False
    error: BaseException | None = None


class SharedCommits:
    """Whoever finds nobody committing does so for all who have come; the first who came meanwhile is next."""

    def __init__(self, repository: JobRepository, publish: Publish) -> None:
        self._repository = repository
        self._publish = publish
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._committing = False

    def add(self, job: NewJob) -> None:
        """Commit one job and publish it, together with those that came while the last commit was under way.

        Raises DatabaseUnavailable, or InvalidInput when Postgres refuses this very job.
        """
        mine = _Waiting(job, threading.Lock())
        try:
            if self._must_wait(mine):
                mine.turn.acquire()
            if not mine.done:
                self._commit_waiting(mine)
        except BaseException:
            # Ctrl-C: whoever comes next must not wait for us.
            self._leave(mine)
            raise
        if mine.error is not None:
            raise mine.error

    def _must_wait(self, mine: _Waiting) -> bool:
        with self._lock:
            self._waiting.append(mine)
            if self._committing:
                mine.turn.acquire()
                return True
            mine.is_next = self._committing = True
            return False

    def _leave(self, mine: _Waiting) -> None:
        with self._lock:
            if mine in self._waiting:
                self._waiting.remove(mine)
                if mine.is_next:
                    self._call_next()

    def _call_next(self) -> None:
        self._committing = bool(self._waiting)
        if self._waiting:
            self._waiting[0].is_next = True
            self._waiting[0].turn.release()

    def add_all(self, jobs: Sequence[NewJob]) -> None:
        """Commit these jobs, all or none, and publish them."""
        self._publish(jobs, self._insert(jobs))
        self._sync(jobs)

    def _insert(self, jobs: Sequence[NewJob]) -> datetime:
        try:
            enqueued_at = self._repository.insert_unsynced(jobs)
            failpoints.hit("submit.stored")
            return enqueued_at
        except DatabaseUnavailable as error:
            # The reply to the commit may be what was lost: the rows tell.
            return self._enqueued_at(jobs, error)

    def _sync(self, jobs: Sequence[NewJob]) -> None:
        try:
            self._repository.sync()
        except DatabaseUnavailable as error:
            # A crash has taken the jobs along, or a connection broke and they are there.
            self._enqueued_at(jobs, error)
            self._repository.sync()

    def _enqueued_at(self, jobs: Sequence[NewJob], error: DatabaseUnavailable) -> datetime:
        """When jobs were stored whose fate is unknown since `error`, which is raised unless they were."""
        found = self._repository.get_many([job.id for job in jobs])
        if len(found) != len(jobs):
            raise error
        return found[jobs[0].id].enqueued_at

    def _commit_waiting(self, mine: _Waiting) -> None:
        with self._lock:
            batch, self._waiting = self._waiting, []
        try:
            with _told_to(batch, mine):
                try:
                    enqueued_at = self._insert_waiting(batch)
                finally:
                    # The next commit begins while this one's envelopes are pushed.
                    with self._lock:
                        self._call_next()
                stored = [entry.job for entry in batch if entry.error is None]
                if stored and enqueued_at is not None:
                    self._publish(stored, enqueued_at)
                    self._sync(stored)
        finally:
            for entry in batch:
                entry.done = True
                if entry is not mine:
                    entry.turn.release()

    def _insert_waiting(self, batch: Sequence[_Waiting]) -> datetime | None:
        """When they were enqueued: all together or, if Postgres refuses one of them, one by one."""
        try:
            return self._insert([entry.job for entry in batch])
        except psycopg2.DataError as error:
            if len(batch) == 1:
                batch[0].error = InvalidInput(f"Postgres refuses the job: {error}")
                return None
        found = [self._insert_alone(entry) for entry in batch]
        return min((moment for moment in found if moment is not None), default=None)

    def _insert_alone(self, entry: _Waiting) -> datetime | None:
        try:
            return self._insert_waiting([entry])
        except DatabaseUnavailable as error:
            entry.error = error
            return None


@contextmanager
def _told_to(batch: Sequence[_Waiting], mine: _Waiting) -> Iterator[None]:
    """Whoever waits hears of an error within the block, or would wait for ever."""
    try:
        yield
    except BaseException as error:  # noqa: BLE001 - each raises it, or what became of it, in its own thread
        interrupted = DatabaseUnavailable("the submit was interrupted; it may have been stored")
        for entry in batch:
            entry.error = entry.error or (
                error if entry is mine or isinstance(error, Exception) else interrupted
            )
