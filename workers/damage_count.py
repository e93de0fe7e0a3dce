"""How often a scoring's dataset was held up by one damaged object; pure."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

DAMAGED_READS = 3
"""So many reads of one damaged object end its scoring: another may get it whole."""

REST_S = 10.0
"""Reads in quick succession count once: what is amiss on the way gets time to pass."""


@dataclass(frozen=True, slots=True)
class _Seen:
    key: str
    times: int
    counted_at: float


class DamageCount:
    """Counts in memory; another hub begins anew."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[UUID, _Seen] = {}

    def lasts(self, scoring: UUID, key: str) -> bool:
        """Note that an object was read damaged; whether that has been often enough."""
        now, seen = self._clock(), self._seen.get(scoring)
        if seen is None or seen.key != key:
            seen = self._seen[scoring] = _Seen(key, 1, now)
        elif now - seen.counted_at >= REST_S:
            seen = self._seen[scoring] = _Seen(key, seen.times + 1, now)
        return seen.times >= DAMAGED_READS

    def forget(self, scoring: UUID) -> None:
        """Its objects were read whole, or it has ended."""
        self._seen.pop(scoring, None)
