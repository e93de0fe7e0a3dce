"""What each priority class is sure of, whatever others want: of a batch's seats and of a worker's room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shunter.storage.job import Priority

SHARE = 1 / 8
"""Each class below the most urgent has so much."""

AGED_S = 10.0
AGED_SHARE = 1 / 4
"""And so much once its oldest row has been in line for that long: less than half for both together, so that
a class that is urgent and takes less than half of the machine never waits for old backlog."""

MOST_AHEAD = 1.5
"""So many batches that a class got beyond its share, in room that nobody else wanted, are paid ahead: then a
burst of urgent rows has all seats. Twelve batches of them: with 70 % of urgent load, random bursts are hardly
ever longer."""

ROUNDING = 1e-9
"""Seats are whole: what thirds and fifths of a batch lose in the sum is not lost to the class."""


def share(priority: Priority, *, waited_s: float = 0.0) -> float:
    """The part of everything that a class may claim; what it leaves goes to the most urgent that wants it."""
    if priority is Priority.INTERACTIVE:
        return 0.0
    return AGED_SHARE if waited_s >= AGED_S else SHARE


class Ledger:
    """What the classes are owed, in whole batches: a class that waits is owed its share of every batch.

    It is paid in seats of batches that others lead, or with a batch of its own once it is owed one. So what
    begins to wait is served within 1/SHARE batches, and what was served lately within (1 + MOST_AHEAD)/SHARE,
    in whatever lane. Counted in service and not in seconds, the bound holds for models of every speed.
    """

    def __init__(self) -> None:
        self._owed = [0.0 for _ in Priority]

    def due(self, priority: int) -> bool:
        """Whether the class leads the next batch."""
        return self._owed[priority] >= 1 - ROUNDING

    def seats(self, priority: int, limit: int) -> int:
        """How many of a batch's seats are kept for the class, if another leads: less than half."""
        return max(0, min(int(self._owed[priority] * limit + ROUNDING), (limit - 1) // 2))

    def settle(self, waited_s: Mapping[int, float], paid: Sequence[float]) -> Sequence[float]:
        """A batch was closed: how long each class had waited that did, and which part of the seats each got.

        A class is never owed more than one batch, and nothing once it no longer waits. Returns by how much
        each is owed more than before.
        """
        before = list(self._owed)
        for priority in Priority:
            waits = priority in waited_s
            earned = share(priority, waited_s=waited_s[priority]) if waits else 0.0
            owed = self._owed[priority] + earned - paid[priority]
            self._owed[priority] = min(1.0, max(-MOST_AHEAD, owed)) if waits else 0.0
        return [after - owed for after, owed in zip(self._owed, before, strict=True)]

    def undo(self, changes: Sequence[float]) -> None:
        """A batch is not run after all: what `settle` returned for it is taken back."""
        for priority, change in enumerate(changes):
            self._owed[priority] = min(1.0, max(-MOST_AHEAD, self._owed[priority] - change))
