"""The duty of forgetting scorings: their rows and what they staged, once they have been kept long enough."""

from __future__ import annotations

import logging

from shunter.storage.duty_locks import DutyLock
from shunter.storage.errors import SettingsError
from shunter.storage.job_repair import JobRepair
from shunter.storage.scoring.destination import open_destination
from shunter.storage.scoring.retention import OldScoring, ScoringRetention

log = logging.getLogger(__name__)


class ForgetScorings:
    """What was staged goes before the rows that tell where it lies; a kill in between does it again."""

    interval_s = 600.0

    def __init__(self, repair: JobRepair, retention: ScoringRetention) -> None:
        self._repair = repair
        self._retention = retention

    def run_once(self) -> int:
        """One round; returns how many scorings and staged objects were removed. Raises Unavailable."""
        with self._repair.duty(DutyLock.FORGET_SCORINGS) as cursor:
            if cursor is None:
                return 0
            removed = 0
            while old := self._retention.old():
                for scoring in old:
                    _discard_parts(scoring)
                    self._retention.remove(scoring.id)
                removed += len(old)
            return removed + self._retention.sweep_inputs()


def _discard_parts(scoring: OldScoring) -> None:
    try:
        open_destination(scoring.output, scoring.id).discard()
    except SettingsError as error:
        # A bucket that is gone must not keep every scoring that ever wrote to it.
        log.warning("what the scoring %s staged is left where it lies: %s", scoring.id, error)
