"""Concurrent submits of one process share a commit and a push; a lone call never waits for another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg2

from shunter.storage import failpoints
from shunter.storage.errors import DatabaseUnavailable, InvalidInput
from shunter.storage.job import NewJob
from shunter.storage.job_repository import JobRepository

Publish = Callable[[Sequence[NewJob], datetime], None]
"""Pushes the envelopes of committed jobs; must not raise because Redis is silent."""


@dataclass(slots=True)
class _Waiting:
    job: NewJob
    done: bool = False
    error: BaseException | None = None


class SharedCommits:
    """Whoever finds the turn free commits and publishes for all who came meanwhile."""

    def __init__(self, repository: JobRepository, publish: Publish) -> None:
        self._repository = repository
        self._publish = publish
        self._turn = threading.Lock()
        self._queue_lock = threading.Lock()
        self._waiting: list[_Waiting] = []

    def add(self, job: NewJob) -> None:
        """Commit one job and publish it, together with those that came while the last commit was under way.

        Raises DatabaseUnavailable, or InvalidInput when Postgres refuses this very job.
        """
        mine = _Waiting(job)
        with self._queue_lock:
            self._waiting.append(mine)
        with self._turn:
            if not mine.done:
                self._commit_waiting()
        if mine.error is not None:
            raise mine.error

    def add_all(self, jobs: Sequence[NewJob]) -> None:
        """Commit these jobs, all or none, and publish them."""
        try:
            enqueued_at = self._repository.insert(jobs)
            failpoints.hit("submit.stored")
        except DatabaseUnavailable:
            # The reply to the commit may be what was lost: the rows tell.
            found = self._repository.get_many([job.id for job in jobs])
            if len(found) != len(jobs):
                raise
            enqueued_at = found[jobs[0].id].enqueued_at
        self._publish(jobs, enqueued_at)

    def _commit_waiting(self) -> None:
        with self._queue_lock:
            batch, self._waiting = self._waiting, []
        try:
            self.add_all([entry.job for entry in batch])
        except psycopg2.DataError:
            # One of them holds what Postgres refuses: only that one may fail.
            for entry in batch:
                self._commit_alone(entry)
        except BaseException as error:
            for entry in batch:
                entry.error = error
            raise
        finally:
            for entry in batch:
                entry.done = True

    def _commit_alone(self, entry: _Waiting) -> None:
        try:
            self.add_all([entry.job])
        except psycopg2.DataError as error:
            entry.error = InvalidInput(f"Postgres refuses the job: {error}")
        except DatabaseUnavailable as error:
            entry.error = error
