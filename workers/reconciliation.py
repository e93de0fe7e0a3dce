"""Now and then a hub asks Postgres what it holds, and finds where the two disagree; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shunter.storage.job import Claim, ClaimedJob

RECONCILE_INTERVAL_S = 5.0


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a hub and Postgres disagree."""

    unknown: frozenset[Claim]
    """Postgres says ours, the hub does not know of it: it goes back to the queue."""
    lost: frozenset[Claim]
    """The hub holds it, Postgres says otherwise: it was cancelled, or belongs to another."""


def compare(before: Iterable[Claim], stored: Iterable[Claim], since: Iterable[Claim]) -> Difference:
    """Compare what Postgres said with what the hub held before it was asked, and has claimed since."""
    before, stored = frozenset(before), frozenset(stored)
    # What is held no longer of all these was settled while the answer was on its way.
    return Difference(unknown=stored - before - frozenset(since), lost=before - stored)


class Reconciliation:
    """At most one question at a time, `RECONCILE_INTERVAL_S` apart; `now` is a moment of one clock."""

    def __init__(self) -> None:
        self._ask_at = 0.0
        self._held_before: frozenset[Claim] | None = None
        self._since: list[Claim] = []

    def due(self, now: float) -> bool:
        """Whether it is time to ask."""
        return now >= self._ask_at and self._held_before is None

    def asked(self, held: Iterable[Claim], now: float) -> None:
        """The question is on its way, and this is what is held meanwhile."""
        self._ask_at = now + RECONCILE_INTERVAL_S
        self._held_before, self._since = frozenset(held), []

    def claimed(self, jobs: Iterable[ClaimedJob]) -> None:
        """These are held from now on."""
        if self._held_before is not None:
            self._since += [Claim(job.id, job.epoch) for job in jobs]

    def answered(self, stored: Iterable[Claim]) -> Difference:
        """Postgres has said what it believes; every claim of before has been reported."""
        before, self._held_before = self._held_before or frozenset(), None
        return compare(before, stored, self._since)

    def forget(self) -> None:
        """The question that is under way will not be answered."""
        self._held_before = None
