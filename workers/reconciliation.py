"""Now and then a hub asks Postgres what it holds, and finds where the two disagree; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shunter.storage.job import Claim

RECONCILE_INTERVAL_S = 5.0


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a hub and Postgres disagree."""

    unknown: frozenset[Claim]
    """Postgres says ours, the hub does not know of it: it goes back to the queue."""
    lost: frozenset[Claim]
    """The hub holds it, Postgres says otherwise: it was cancelled, or belongs to another."""


def compare(before: Iterable[Claim], stored: Iterable[Claim], after: Iterable[Claim]) -> Difference:
    """Compare what Postgres said with what the hub held before it was asked and holds after."""
    before, stored = frozenset(before), frozenset(stored)
    # What was held before and is not any more was settled while the answer was on its way.
    return Difference(unknown=stored - before - frozenset(after), lost=before - stored)


class Reconciliation:
    """At most one question at a time, `RECONCILE_INTERVAL_S` apart; `now` is a moment of one clock."""

    def __init__(self) -> None:
        self._ask_at = 0.0
        self._held_before: frozenset[Claim] | None = None

    def due(self, now: float) -> bool:
        """Whether it is time to ask."""
        return now >= self._ask_at and self._held_before is None

    def asked(self, held: Iterable[Claim], now: float) -> None:
        """The question is on its way, and this is what is held meanwhile."""
        self._ask_at = now + RECONCILE_INTERVAL_S
        self._held_before = frozenset(held)

    def answered(self, stored: Iterable[Claim], held: Iterable[Claim]) -> Difference:
        """Postgres has said what it believes, and this is what is held now."""
        before, self._held_before = self._held_before or frozenset(), None
        return compare(before, stored, held)

    def forget(self) -> None:
        """The question that is under way will not be answered."""
        self._held_before = None
