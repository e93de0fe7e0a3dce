"""The handle of a scoring."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from shunter.producers.scoring.request import ScoringStatus
from shunter.producers.showing import asked_as_html, progress_bar, scoring_facts
from shunter.storage.errors import ReportPending, WaitTimeout

if TYPE_CHECKING:
    from shunter.producers.client import Client

Answer = TypeVar("Answer")

SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 0.25
PATIENCE = 0.125
"""Between two looks passes so much of what has been waited so far: a short scoring is not waited for long."""


class Scoring:
    """A dataset that is being scored, or was; the fleet goes on with it, whoever holds this."""

    def __init__(self, client: Client, id: UUID) -> None:
        self._client = client
        self._id = id

    @property
    def id(self) -> str:
        """Its id."""
        return str(self._id)

    def status(self) -> ScoringStatus:
        """Where it stands now."""
        return self._client.backend.scorings.get(self._id)

    def wait(self, timeout: float | None = None, *, progress: bool = False) -> ScoringStatus:
        """Where it stands when it has ended; raises only WaitTimeout, after `timeout` seconds.

        `progress` shows a bar, in a notebook too.
        """
        if not progress:
            return self._wait_for(lambda: self._ended(lambda _: None), timeout)
        with progress_bar("rows") as advance:
            return self._wait_for(
                lambda: self._ended(lambda status: advance(status.succeeded + status.failed, status.total)),
                timeout,
            )

    def report(self, timeout: float | None = None) -> Mapping[str, Any]:
        """What it was like, as JSON; waits until that is known, at most `timeout` seconds.

        Raises NoReport if it did not complete, WaitTimeout. `docs/reports.md` describes the document.
        """
        return self._wait_for(lambda: _reported(self._client.backend.scorings.report, self._id), timeout)

    def report_page(self, timeout: float | None = None) -> str:
        """The same as one HTML page, which needs nothing else."""
        return self._wait_for(lambda: _reported(self._client.backend.scorings.report_page, self._id), timeout)

    def cancel(self) -> ScoringStatus:
        """Cancel it, and what it has written so far; AlreadyFinished."""
        return self._client.backend.scorings.cancel(self._id)

    def _wait_for(self, ask: Callable[[], Answer | None], timeout: float | None) -> Answer:
        began = time.monotonic()
        deadline = None if timeout is None else began + timeout
        while (answer := ask()) is None:
            now = time.monotonic()
            left = None if deadline is None else deadline - now
            if left is not None and left <= 0:
                raise WaitTimeout(f"the scoring {self.id} has not ended in time: it goes on, wait again")
            pause_s = min(max(SHORTEST_PAUSE_S, PATIENCE * (now - began)), LONGEST_PAUSE_S)
            time.sleep(pause_s if left is None else min(pause_s, left))
        return answer

    def __repr__(self) -> str:
        return f"Scoring({self.id!r})"

    def _repr_html_(self) -> str:
        return asked_as_html(self, lambda: scoring_facts(self.status()))

    def _ended(self, look: Callable[[ScoringStatus], None]) -> ScoringStatus | None:
        status = self.status()
        look(status)
        return status if status.done else None


def _reported(ask: Callable[[UUID], Answer], id: UUID) -> Answer | None:
    try:
        return ask(id)
    except ReportPending:
        return None
