"""The fleet's small duties, run by every hub in turn: a lock in Postgres lets one at a time do each."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from shunter.storage.duty_locks import DutyLock
from shunter.storage.errors import Unavailable
from shunter.storage.job_repair import JobRepair
from shunter.storage.worker_registry import WorkerRegistry

log = logging.getLogger(__name__)

TOGETHER_S = 0.03
"""News seldom come alone: what comes within so long is looked at together."""


class Duty(Protocol):
    """Something that is done again and again."""

    @property
    def interval_s(self) -> float:
        """Seconds from one round to the next."""

    def run_once(self) -> int:
        """One round; returns how many things it mended. Raises Unavailable."""


class Expiry:
    """Expires queued jobs whose deadline has passed."""

    interval_s = 1.0

    def __init__(self, repair: JobRepair) -> None:
        self._repair = repair

    def run_once(self) -> int:
        """One round."""
        with self._repair.duty(DutyLock.EXPIRE_JOBS) as cursor:
            return self._repair.expire_overdue(cursor) if cursor is not None else 0


class Unserved:
    """Fails queued jobs of versions that no worker has served for long."""

    interval_s = 15.0

    def __init__(self, repair: JobRepair) -> None:
        self._repair = repair

    def run_once(self) -> int:
        """One round."""
        with self._repair.duty(DutyLock.NAME_UNSERVED) as cursor:
            return self._repair.fail_unserved(cursor) if cursor is not None else 0


class Upkeep:
    """Makes the coming weeks' partitions, and forgets workers that ended long ago."""

    interval_s = 3600.0

    def __init__(self, repair: JobRepair, registry: WorkerRegistry) -> None:
        self._repair = repair
        self._registry = registry

    def run_once(self) -> int:
        """One round."""
        with self._repair.duty(DutyLock.UPKEEP) as cursor:
            if cursor is not None:
                self._repair.ensure_partitions(cursor)
        self._registry.forget()
        return 0


class Housekeeper:
    """One thread that runs each duty when it is due, and soon after somebody has set `news`."""

    def __init__(self, duties: Sequence[Duty], *, news: threading.Event | None = None) -> None:
        self._due = dict.fromkeys(duties, 0.0)
        self._news = news or threading.Event()
        self._stop = threading.Event()
        self._outage = ""
        self._thread = threading.Thread(target=self._loop, name="housekeeper", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float | None = None) -> None:
        """Finish the round under way, then end; after `timeout_s` the end of the process cuts it short."""
        self._stop.set()
        self._news.set()
        self._thread.join(timeout_s)

    def _loop(self) -> None:
        while not self._stop.is_set():
            if self._news.wait(max(0.0, min(self._due.values()) - time.monotonic())):
                self._stop.wait(TOGETHER_S)
                self._news.clear()
                # None becomes due before one that is already: news without end keep no duty from its turn.
                now = time.monotonic()
                self._due = {duty: min(due, now) for duty, due in self._due.items()}
                continue
            duty = min(self._due, key=lambda duty: self._due[duty])
            try:
                duty.run_once()
            except Unavailable as error:
                self._report(error)
            except Exception:
                # One duty that cannot be done must not end the others, here and in every other hub.
                log.critical("the duty %s failed", type(duty).__name__, exc_info=True)
            else:
                self._outage = ""
            self._due[duty] = time.monotonic() + duty.interval_s

    def _report(self, error: Unavailable) -> None:
        # Once for an outage, however many duties meet it.
        if error.code != self._outage:
            self._outage = error.code
            log.warning("housekeeping waits: %s", error)
