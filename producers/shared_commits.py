"""Concurrent submits of one process share a commit and a push; a lone call never waits for another.

    insert -> push -> sync

Jobs are pushed as soon as others see them, so that a worker is at them while the disk is still writing; Redis
answers meanwhile. A crash of Postgres in between undoes the jobs and all that was made of them; no call has
returned by then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import psycopg2

from shunter.storage import failpoints
from shunter.storage.errors import DatabaseUnavailable, InvalidInput
from shunter.storage.job import NewJob
from shunter.storage.job_repository import JobRepository


class SupportsClose(Protocol):
    """Something under way that must be closed."""

    def close(self) -> None:
        """Wait for its end."""


class _Answered:
    def close(self) -> None:
        """There is nothing to wait for."""


ANSWERED: SupportsClose = _Answered()

Publish = Callable[[Sequence[NewJob], datetime], SupportsClose]
"""Sends the envelopes of committed jobs; neither this nor its end may raise because Redis is silent."""


Draft = Callable[[], NewJob]
"""Makes a job, or raises why there is none; in any thread, while all wait who commit together."""


@dataclass(eq=False, slots=True)
class _Waiting:
    draft: Draft
    job: NewJob = field(init=False)
    turn: threading.Lock = field(default_factory=threading.Lock)
    """Released when the job is done with, or when its thread is the next to commit."""
    done: bool = False
    error: BaseException | None = None


def _nothing() -> None:
    pass


class SharedCommits:
    """Whoever finds nobody committing does so for all who have come; the first who came meanwhile is next.

    It makes the jobs of all as well: threads that make their own hand the interpreter, and with it what the
    caches hold, from core to core.
    """

    def __init__(self, repository: JobRepository, publish: Publish) -> None:
        self._repository = repository
        self._publish = publish
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._committing: _Waiting | None = None
        """Whose jobs are not stored yet, or whose turn it is to store all who wait."""
        self._crowded = False
        """Whether the last commit was shared: then those whom it has let go are on their way back."""

    def add(self, draft: Draft) -> NewJob:
        """Make one job, commit and publish it, with those that came while the last commit was under way.

        Raises what the draft raises, DatabaseUnavailable, or InvalidInput if Postgres refuses this very job.
        """
        mine = _Waiting(draft)
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
        return mine.job

    def add_all(self, jobs: Sequence[NewJob]) -> None:
        """Commit these jobs, all or none, and publish them; raises as `add` does."""
        try:
            self._store(jobs)
        except psycopg2.DataError as error:
            raise _refused(error) from error

    def _must_wait(self, mine: _Waiting) -> bool:
        with self._lock:
            self._waiting.append(mine)
            if self._committing is None:
                self._committing = mine
                return False
            mine.turn.acquire()
            return True

    def _leave(self, mine: _Waiting) -> None:
        with self._lock:
            if mine in self._waiting:
                self._waiting.remove(mine)
        self._hand_over(mine)

    def _hand_over(self, mine: _Waiting) -> None:
        """Let the next one commit, unless that was done before."""
        with self._lock:
            if self._committing is mine:
                self._committing = self._waiting[0] if self._waiting else None
                if self._committing is not None:
                    self._committing.turn.release()

    def _commit_waiting(self, mine: _Waiting) -> None:
        if self._crowded:
            self._let_others_come()
        with self._lock:
            batch, self._waiting = self._waiting, []
            self._crowded = len(batch) > 1
        try:
            made = _make(batch)
            # The next commit begins while this one's envelopes are pushed.
            self._store_waiting(made, stored=lambda: self._hand_over(mine))
        except BaseException as error:  # noqa: BLE001 - each raises it, or what became of it, in its own thread
            _tell(error, batch, mine)
        finally:
            # Whoever waits would wait for ever.
            self._hand_over(mine)
            for entry in batch:
                entry.done = True
                if entry is not mine:
                    entry.turn.release()

    def _let_others_come(self) -> None:
        """Give way to other threads as long as more come each time: one commit for all costs the least."""
        came = 0
        while len(self._waiting) > came:
            came = len(self._waiting)
            time.sleep(0)

    def _store_waiting(self, batch: Sequence[_Waiting], stored: Callable[[], None] = _nothing) -> None:
        """All together or, if Postgres refuses one of them, one by one."""
        if not batch:
            return
        try:
            self._store([entry.job for entry in batch], stored)
        except psycopg2.DataError as error:
            if len(batch) == 1:
                batch[0].error = _refused(error)
            else:
                for entry in batch:
                    self._store_alone(entry)

    def _store_alone(self, entry: _Waiting) -> None:
        try:
            self._store_waiting([entry])
        except DatabaseUnavailable as error:
            entry.error = error

    def _store(self, jobs: Sequence[NewJob], stored: Callable[[], None] = _nothing) -> None:
        """Return once they are on disk; `stored` is called when all see them."""
        push = ANSWERED
        try:
            with self._repository.storing() as storing:
                enqueued_at = storing.insert(jobs)
                failpoints.hit("submit.stored")
                stored()
                push = self._publish(jobs, enqueued_at)
                storing.sync()
        except DatabaseUnavailable as error:
            # The answer to a commit may be what was lost: the rows tell. A second envelope does no harm.
            enqueued_at = self._enqueued_at(jobs, error)
            with closing(self._publish(jobs, enqueued_at)), self._repository.storing() as storing:
                storing.sync()
        finally:
            # Not before: while Redis hangs, nobody holds a connection to Postgres for it.
            push.close()

    def _enqueued_at(self, jobs: Sequence[NewJob], error: DatabaseUnavailable) -> datetime:
        """When jobs were stored whose fate is unknown since `error`, which is raised unless they were."""
        found = self._repository.get_many([job.id for job in jobs])
        if len(found) != len(jobs):
            raise error
        return found[jobs[0].id].enqueued_at


def _make(batch: Sequence[_Waiting]) -> list[_Waiting]:
    """Those of whose drafts jobs were made."""
    for entry in batch:
        try:
            entry.job = entry.draft()
        except Exception as error:  # noqa: BLE001 - each raises its own in its own thread
            entry.error = error
    return [entry for entry in batch if entry.error is None]


def _refused(error: psycopg2.DataError) -> InvalidInput:
    return InvalidInput(f"Postgres refuses the job: {error}")


def _tell(error: BaseException, batch: Sequence[_Waiting], mine: _Waiting) -> None:
    interrupted = DatabaseUnavailable("the submit was interrupted; it may have been stored")
    for entry in batch:
        entry.error = entry.error or (error if entry is mine or isinstance(error, Exception) else interrupted)
