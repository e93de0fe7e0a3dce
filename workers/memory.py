"""Which engines get, keep and give up their places in a device's memory; pure.

A place is given in the order in which models began to wait for one, and nobody overtakes: a large model is
not kept out by small ones. An engine that has run dry leaves at once, the least recently used first; one
that has work leaves when it has had its turn, the longest one first. So with P places and W models that
never run dry each of them comes round after about W/P turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shunter.workers.holdings import ModelKey

DRY_AFTER_S = 1.0
"""An engine has run dry when nothing has come for so long: several times what a fetch and a claim take."""

LEAST_TURN_S = 5.0
TURN_LOADS = 5.0
"""A turn lasts at least so many times the load, so that at most a sixth of the time is spent on loading."""

IDLE_S = 600.0
"""An engine that nobody has used for so long is unloaded though no one wants its room, but for the last one
used: a worker of a single model never pays a second load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """An engine in memory; `cost` in bytes, times on one monotonic clock.

    `since` is the beginning of its turn, `used_at` when it last had work, `busy` whether it has some now.
    """

    key: ModelKey
    cost: int
    since: float
    used_at: float
    load_s: float = 0.0
    ready: bool = True
    busy: bool = False
    leaving: bool = False
    measured: bool = True

    def dry(self, now: float) -> bool:
        """Whether its work has come to an end."""
        return not self.busy and now - self.used_at >= DRY_AFTER_S

    def had_its_turn(self, now: float) -> bool:
        """Whether it has been there for long enough to make room though it has work."""
        return now - self.since >= max(LEAST_TURN_S, TURN_LOADS * self.load_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanting:
    """A model version that has work, and no engine, since `since`; `cost` is what its engine should need."""

    key: ModelKey
    cost: int
    since: float
    measured: bool = True


@dataclass(frozen=True, slots=True)
class Choice:
    """Whose engine is to be started, and whose is to finish what it has begun and end."""

    load: tuple[ModelKey, ...] = ()
    unload: tuple[ModelKey, ...] = ()


def choose(
    residents: Sequence[Resident], wanting: Sequence[Wanting], *, budget: int | None, now: float
) -> Choice:
    """What to do now, for a budget in bytes, or None if there is no limit."""
    in_line = sorted(wanting, key=lambda want: want.since)
    if budget is None:
        return Choice(tuple(want.key for want in in_line), _long_idle(residents, now))
    free = budget - sum(resident.cost for resident in residents)
    if free < 0:
        return Choice(unload=_keys(_first(-free - _leaving(residents), _in_any_case(residents))))
    loads: list[ModelKey] = []
    guessing = any(not resident.ready and not resident.measured for resident in residents)
    for want in in_line:
        cost = min(want.cost, budget)
        if cost > free:
            return Choice(tuple(loads), _make_room(cost - free, residents, now))
        if guessing and not want.measured:
            # Several guesses at once could all be too low: one is loaded and measured at a time.
            break
        guessing = guessing or not want.measured
        free -= cost
        loads.append(want.key)
    return Choice(tuple(loads), _long_idle(residents, now))


def _make_room(size: int, residents: Sequence[Resident], now: float) -> tuple[ModelKey, ...]:
    """Whose end frees so many bytes; nobody's while it would not be enough: half a place helps no one."""
    missing = size - _leaving(residents)
    chosen = _first(missing, _willing(residents, now))
    return _keys(chosen) if sum(resident.cost for resident in chosen) >= missing else ()


def _first(size: int, residents: Sequence[Resident]) -> list[Resident]:
    """So many of the first that they free `size` bytes, or all."""
    chosen: list[Resident] = []
    for resident in residents:
        if size <= 0:
            break
        chosen.append(resident)
        size -= resident.cost
    return chosen


def _leaving(residents: Sequence[Resident]) -> int:
    return sum(resident.cost for resident in residents if resident.leaving)


def _keys(residents: Sequence[Resident]) -> tuple[ModelKey, ...]:
    return tuple(resident.key for resident in residents)


def _willing(residents: Sequence[Resident], now: float) -> list[Resident]:
    staying = [resident for resident in residents if resident.ready and not resident.leaving]
    dry = sorted((r for r in staying if r.dry(now)), key=lambda r: r.used_at)
    done = sorted((r for r in staying if not r.dry(now) and r.had_its_turn(now)), key=lambda r: r.since)
    return [*dry, *done]


def _in_any_case(residents: Sequence[Resident]) -> list[Resident]:
    """Memory is short already: the least recently used first, whatever it is at; an only one stays."""
    staying = sorted(
        (resident for resident in residents if resident.ready and not resident.leaving),
        key=lambda r: (r.busy, r.used_at),
    )
    return staying if len(residents) > 1 else []


def _long_idle(residents: Sequence[Resident], now: float) -> tuple[ModelKey, ...]:
    staying = sorted((r for r in residents if r.ready and not r.leaving), key=lambda r: r.used_at)
    return _keys([r for r in staying[:-1] if not r.busy and now - r.used_at >= IDLE_S])
