"""The duties of forgetting: jobs, keys and messages that have been kept long enough, and unnamed objects."""

from __future__ import annotations

import logging

from shunter.storage.duty_locks import DutyLock
from shunter.storage.job_repair import JobRepair
from shunter.storage.job_retention import JobRetention
from shunter.storage.object_sweep import ObjectSweep

log = logging.getLogger(__name__)


class Retention:
    """Removes what has been kept long enough."""

    interval_s = 600.0

    def __init__(self, repair: JobRepair, retention: JobRetention) -> None:
        self._repair = repair
        self._retention = retention

    def run_once(self) -> int:
        """One round; returns how many weeks and rows were removed. Raises Unavailable."""
        with self._repair.duty(DutyLock.FORGET_JOBS) as cursor:
            if cursor is None:
                return 0
            removed = sum(self._week(partition) for partition in self._retention.weeks())
            for remove_page in self._retention.others():
                while count := remove_page():
                    removed += count
            return removed

    def _week(self, partition: str) -> int:
        if self._retention.drop(partition):
            log.info("retention dropped %s", partition)
            return 1
        removed = 0
        while count := self._retention.delete_page(partition):
            removed += count
        return removed


class Sweep:
    """Removes old objects that no row names."""

    interval_s = 6 * 3600.0

    def __init__(self, repair: JobRepair, sweep: ObjectSweep) -> None:
        self._repair = repair
        self._sweep = sweep

    def run_once(self) -> int:
        """One round; returns how many objects were removed. Raises Unavailable."""
        with self._repair.duty(DutyLock.SWEEP_OBJECTS) as cursor:
            return 0 if cursor is None else self._sweep.run()
