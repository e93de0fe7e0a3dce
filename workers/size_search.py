"""Which batch size costs least per work, found by duels between sizes; pure, without a clock.

The present size and a rival run in turn, so that a machine that changes its speed changes it for both. The
search climbs by doubling for as long as that pays, tries the sizes nearby, and goes on doing so now and then,
so that it follows a cost that changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

DUEL_BATCHES = 12
"""Batches of each side of a duel; the slowest and the fastest are left out."""

CLEAR_AFTER, CLEAR_RATIO = 2, 1.3
"""A duel in which one side costs so many times the other after so many batches is decided already."""

AHEAD = 2
"""So many batches more than its rival the present size may have in a duel: some are closed ahead."""

GIVEN_UP_AFTER = 6 * DUEL_BATCHES
"""A duel that too few rows wait for, or rows too urgent for it, is given up after so many other batches."""

REST_BATCHES = 256
"""Batches of the present size between two duels, once every size nearby has been tried."""

SHIFT = 1.25
"""A present size that costs so many times more or less than when the rest began ends the rest."""

FIRST_BATCHES = 3
"""Batches before the first duel: the very first are slow."""

TOLERANCE = 0.01
"""Of sizes that cost nearly the same the smallest is taken: it makes nobody wait for it. Little, because a
size is compared with its neighbours, and small steps add up."""

STALE_DUELS = 6
"""A comparison older than so many duels is forgotten."""


@dataclass(slots=True)
class _Duel:
    """Costs per work of two sizes, measured in turn."""

    rival: int
    base_costs: list[float] = field(default_factory=list)
    rival_costs: list[float] = field(default_factory=list)
    others: int = 0

    @property
    def turn_of_rival(self) -> bool:
        return len(self.rival_costs) <= len(self.base_costs)

    @property
    def over(self) -> bool:
        fought = min(len(self.base_costs), len(self.rival_costs))
        if CLEAR_AFTER <= fought < DUEL_BATCHES:
            ratio = self.ratio()
            return max(ratio, 1 / ratio) >= CLEAR_RATIO
        return fought >= DUEL_BATCHES

    def ratio(self) -> float:
        return _middle(self.rival_costs) / _middle(self.base_costs)


class Search:
    """The size with the least cost per work, for one kind of batch."""

    def __init__(self, max_rows: int, *, start: int, settled: bool = False) -> None:
        self._grid = grid(max_rows)
        self._base = nearest(self._grid, start)
        self._ratios: dict[int, float] = {}
        self._duelled: dict[int, int] = {}
        self._duels = 0
        self._duel: _Duel | None = None
        self._rest = REST_BATCHES if settled else FIRST_BATCHES
        self._lately: list[float] = []
        self._at_rest = 0.0

    @property
    def base(self) -> int:
        """The best size known."""
        return self._base

    @property
    def settled(self) -> bool:
        """Whether every size nearby has been tried."""
        return self._duelled != {} and self._duel is None

    def rows(self) -> int:
        """The size that the next batch should have."""
        return self._duel.rival if self._duel is not None and self._duel.turn_of_rival else self._base

    def add(self, rows: int, cost: float) -> None:
        """Learn what a batch of this size cost per work."""
        if self._duel is None:
            if rows == self._base:
                self._pause(cost)
            return
        duel = self._duel
        if rows == self._base and len(duel.base_costs) <= len(duel.rival_costs) + AHEAD:
            duel.base_costs.append(cost)
        elif rows == duel.rival:
            duel.rival_costs.append(cost)
        else:
            duel.others += 1
        if duel.over:
            self._decide(duel)
        elif duel.others >= GIVEN_UP_AFTER:
            self._end_duel(rest=True)

    def ratios(self) -> dict[int, float]:
        """What the sizes compared lately cost, relative to the present one."""
        return {self._base: 1.0, **self._ratios}

    def _pause(self, cost: float) -> None:
        self._rest -= 1
        self._lately.append(cost)
        if len(self._lately) == DUEL_BATCHES:
            now, self._lately = _middle(self._lately), []
            then = self._at_rest = self._at_rest or now
            if not 1 / SHIFT <= now / then <= SHIFT:
                self._rest = 0
                self._forget()
        if self._rest <= 0:
            self._at_rest = 0.0
            self._lately = []
            self._challenge()

    def _decide(self, duel: _Duel) -> None:
        ratio, known = duel.ratio(), self._ratios.get(duel.rival)
        if known is not None and not 1 / SHIFT <= ratio / known <= SHIFT:
            # The costs have changed, perhaps within a duel: what was compared before says nothing any more.
            self._forget()
            known = None
        self._ratios[duel.rival] = ratio if known is None else (ratio + known) / 2
        self._duels += 1
        self._duelled[duel.rival] = self._duels
        ratios = self.ratios()
        least = min(ratios.values())
        best = min(rows for rows, ratio in ratios.items() if ratio <= least * (1 + TOLERANCE))
        if best != self._base:
            self._move_to(best)
        self._end_duel(rest=False)

    def _forget(self) -> None:
        self._ratios.clear()
        self._duelled.clear()

    def _move_to(self, best: int) -> None:
        ratios = self.ratios()
        self._duelled[self._base] = self._duels
        self._ratios = {rows: ratio / ratios[best] for rows, ratio in ratios.items() if rows != best}
        self._base = best

    def _end_duel(self, *, rest: bool) -> None:
        self._duel = None
        for rows, number in list(self._duelled.items()):
            if number <= self._duels - STALE_DUELS:
                del self._duelled[rows]
                self._ratios.pop(rows, None)
        if rest or all(rows in self._ratios for rows in self._rivals()):
            self._rest = REST_BATCHES
        else:
            self._challenge()

    def _challenge(self) -> None:
        rivals = self._rivals()
        if rivals:
            self._duel = _Duel(min(rivals, key=lambda rows: self._duelled.get(rows, 0)))

    def _rivals(self) -> list[int]:
        """Sizes nearby: the double and the half first, then the nearest."""
        here = self._grid.index(self._base)
        places = (here + 2, here - 2, here + 1, here - 1)
        return [self._grid[place] for place in places if 0 <= place < len(self._grid)]


def grid(max_rows: int) -> list[int]:
    """The sizes that are tried: powers of two, those half way between, and the largest allowed."""
    powers = [1 << power for power in range(max_rows.bit_length())]
    between = [3 * power // 2 for power in powers[1:]]
    return sorted({rows for rows in (*powers, *between) if rows <= max_rows} | {max_rows})


def nearest(sizes: Sequence[int], rows: float) -> int:
    """The size that is nearest in proportion."""
    return min(sizes, key=lambda size: abs(math.log(size / max(rows, 1))))


def _middle(costs: Sequence[float]) -> float:
    """The mean without the fastest and the slowest; the fastest alone of two."""
    kept = sorted(costs)[1:-1] or [min(costs)]
    return sum(kept) / len(kept)
