"""The rescuer: declares silent workers dead, and puts what they were running back on the queue."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from uuid import UUID

from shunter.storage import failpoints
from shunter.storage.duty_locks import DutyLock
from shunter.storage.envelope import pack
from shunter.storage.errors import DatabaseUnavailable
from shunter.storage.job_repair import JobRepair, Requeued
from shunter.storage.worker_registry import LEASE_S, WorkerRegistry
from shunter.workers.envelope_log import TaskEvent, abandoned
from shunter.workers.lists import Lists

log = logging.getLogger(__name__)


LONGEST_STEP_S = 2.0
"""No reading vouches for more silence: while Postgres, or this process, stood still, so did the beats."""


class BeatWatch:
    """Who has not beaten for a whole lease, as far as this process has itself seen; pure."""

    def __init__(self, lease_s: float = LEASE_S) -> None:
        self._lease_s = lease_s
        self._read_at: float | None = None
        self._silent: dict[UUID, tuple[int, float]] = {}

    def note(self, beats: dict[UUID, int], now: float) -> list[UUID]:
        """Add one successful reading of all heartbeat counters; returns the dead."""
        step_s = 0.0 if self._read_at is None else min(now - self._read_at, LONGEST_STEP_S)
        self._read_at = now
        known = self._silent
        self._silent = {
            worker: (beat, known[worker][1] + step_s if worker in known and known[worker][0] == beat else 0.0)
            for worker, beat in beats.items()
        }
        return [worker for worker, (_, silent_s) in self._silent.items() if silent_s >= self._lease_s]

    def restart(self) -> None:
        """A reading failed: silence since then proves nothing."""
        self._read_at = None
        self._silent.clear()


class Rescuer:
    """Ends dead workers, and rescues the jobs of every worker that has ended."""

    interval_s = 1.0

    def __init__(
        self,
        repair: JobRepair,
        registry: WorkerRegistry,
        lists: Lists,
        tell: Callable[[Sequence[TaskEvent]], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        lease_s: float = LEASE_S,
    ) -> None:
        self._repair = repair
        self._registry = registry
        self._lists = lists
        self._tell = tell
        self._clock = clock
        self._watch = BeatWatch(lease_s)

    def run_once(self) -> int:
        """One round; returns how many jobs were rescued. Raises Unavailable."""
        try:
            dead = self._watch.note(self._registry.beats(), self._clock())
        except DatabaseUnavailable:
            self._watch.restart()
            raise
        if dead:
            ended = self._registry.end(dead)
            log.error(
                "workers that have not beaten for a whole lease are dead: %s", ", ".join(map(str, ended))
            )
        rescued = 0
        while page := self._rescue_page():
            failpoints.hit("rescue.committed")
            self._lists.push(pack([requeued.due for requeued in page], page[0].enqueued_at))
            self._announce(page)
            rescued += len(page)
        if rescued:
            log.warning("rescued %d jobs of workers that ended", rescued)
        return rescued

    def _rescue_page(self) -> list[Requeued]:
        with self._repair.duty(DutyLock.RESCUE) as cursor:
            if cursor is None:
                return []
            workers = self._repair.orphaned_workers(cursor)
            return self._repair.rescue(cursor, workers) if workers else []

    def _announce(self, page: Sequence[Requeued]) -> None:
        envelopes = {requeued.envelope for requeued in page if requeued.envelope is not None}
        reason = "its worker ended before its jobs were done; they are queued again"
        self._tell([abandoned(envelope, reason, time.time()) for envelope in envelopes])
