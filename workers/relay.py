"""The relay: pushes the envelopes of jobs that are due again, were lost, or were never published.

Each list is first in, first out, and each envelope carries its job's `enqueued_at`. So a queued, due
job that is older than the head of its list, and stays so, has no envelope any more.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

from shunter.storage import failpoints
from shunter.storage.database import Cursor
from shunter.storage.duty_locks import DutyLock
from shunter.storage.envelope import list_key, pack, queue_name
from shunter.storage.job import Priority
from shunter.storage.job_repair import JobRepair, Requeued
from shunter.workers.lists import Lists

log = logging.getLogger(__name__)

SETTLE_IN_S = 10.0
"""An envelope may be under way between commit and push, or between pop and claim, for so long."""


class HeadWatch:
    """The oldest head of one list over the last SETTLE_IN_S seconds; pure."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque()

    def note(self, head: float, now: float) -> float | None:
        """Add what was seen at `now` (any steady clock); the horizon, or None before a full window."""
        self._seen.append((now, head))
        while len(self._seen) > 1 and self._seen[1][0] <= now - SETTLE_IN_S:
            self._seen.popleft()
        whole = self._seen[0][0] <= now - SETTLE_IN_S
        return min(head for _, head in self._seen) if whole else None


class Relay:
    """Looks at every line, and puts back what is missing."""

    interval_s = 1.0

    def __init__(
        self, repair: JobRepair, lists: Lists, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._repair = repair
        self._lists = lists
        self._clock = clock
        self._watches: dict[tuple[str, Priority], HeadWatch] = {}

    def run_once(self) -> int:
        """One round; returns how many jobs were pushed again. Raises Unavailable."""
        self._push_all(self._repair.wake)
        pushed = 0
        for line, horizon in self._horizons().items():
            pushed += self._put_back(line, horizon)
        if pushed:
            log.info("the relay pushed %d jobs whose envelope was lost or never published", pushed)
        return pushed

    def _horizons(self) -> dict[tuple[str, Priority], float]:
        """Lines with queued jobs older than their horizon."""
        oldest, now = self._repair.oldest_queued()
        self._watches = {line: watch for line, watch in self._watches.items() if line in oldest}
        late = {}
        for line, oldest_at in oldest.items():
            head = self._lists.head_enqueued_at(list_key(queue_name(line[0]), line[1]))
            watch = self._watches.setdefault(line, HeadWatch())
            horizon = watch.note(now.timestamp() if head is None else head, self._clock())
            if horizon is not None and oldest_at.timestamp() < horizon:
                late[line] = horizon
        return late

    def _put_back(self, line: tuple[str, Priority], horizon: float) -> int:
        before = datetime.fromtimestamp(horizon, UTC)
        return self._push_all(lambda cursor: self._repair.requeue_lost(cursor, *line, before=before))

    def _push_all(self, take_page: Callable[[Cursor], list[Requeued]]) -> int:
        """Commit a page, then push it, until there is none; a kill in between leaves it to a later round."""
        pushed = 0
        while page := self._under_lock(take_page):
            failpoints.hit("relay.committed")
            self._lists.push(pack([requeued.due for requeued in page], page[0].enqueued_at))
            pushed += len(page)
        return pushed

    def _under_lock(self, take_page: Callable[[Cursor], list[Requeued]]) -> list[Requeued]:
        with self._repair.duty(DutyLock.RELAY) as cursor:
            return [] if cursor is None else take_page(cursor)
