"""Waiting for jobs through the HTTP API: one long poll asks about up to a hundred of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from uuid import UUID

from shunter.storage.errors import Unavailable, UnknownJob
from shunter.storage.job import JobState

log = logging.getLogger(__name__)

MAX_IDS = 100
"""Ids in one question; their URL stays below what every proxy lets through."""

LONG_WAIT_S = 20.0
SHORT_WAIT_S = 1.0
"""How long the API may hold a question: shorter when others must be asked in turn."""

OUTAGE_PAUSE_S = 0.5

Ask = Callable[[Sequence[UUID], float], Mapping[UUID, JobState]]
"""The states of these jobs, once one of them has ended or the seconds are over."""


class HttpWatch:
    """One thread's wait for several jobs."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._open: dict[UUID, None] = {}
        self._outage = False

    def add(self, ids: Collection[UUID]) -> None:
        self._open.update(dict.fromkeys(ids))

    def next(self, timeout_s: float | None) -> Sequence[UUID]:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self._open:
            left = LONG_WAIT_S if deadline is None else max(0.0, deadline - time.monotonic())
            finished = self._look(min(left, LONG_WAIT_S))
            if finished or (deadline is not None and time.monotonic() >= deadline):
                return finished
        return ()

    def close(self) -> None:
        self._open.clear()

    def _look(self, wait_s: float) -> Sequence[UUID]:
        """The jobs that have ended; all are asked about, the oldest last, to wait with them."""
        groups = _groups(list(self._open))
        if len(groups) > 1:
            wait_s = min(wait_s, SHORT_WAIT_S)
        finished: list[UUID] = []
        for number, group in enumerate(reversed(groups), 1):
            last = number == len(groups)
            finished += self._ask_group(group, wait_s if last and not finished else 0.0)
        return finished

    def _ask_group(self, ids: Sequence[UUID], wait_s: float) -> Sequence[UUID]:
        try:
            states = self._ask(ids, wait_s)
        except Unavailable as error:
            self._sit_out(error, wait_s)
            return ()
        self._outage = False
        for id in ids:
            if id not in states:
                raise UnknownJob(id)
        finished = [id for id, state in states.items() if state.terminal]
        for id in finished:
            self._open.pop(id, None)
        return finished

    def _sit_out(self, error: Unavailable, wait_s: float) -> None:
        if not self._outage:
            log.warning("waiting goes on through an outage: %s", error)
        self._outage = True
        time.sleep(min(wait_s, OUTAGE_PAUSE_S))


def _groups(ids: Sequence[UUID]) -> Sequence[Sequence[UUID]]:
    return [ids[start : start + MAX_IDS] for start in range(0, len(ids), MAX_IDS)]
