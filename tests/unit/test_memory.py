"""Who is loaded and unloaded under a budget, decision by decision and over whole traces."""

from __future__ import annotations

import pytest

from shunter.workers.holdings import ModelKey
from shunter.workers.memory import (
    DRY_AFTER_S,
    IDLE_S,
    LEAST_TURN_S,
    TURN_LOADS,
    Choice,
    Resident,
    Wanting,
    choose,
)

NOW = 1000.0


def resident(
    name: str, cost: int = 1, *, turn_s: float = 0.0, idle_s: float = 0.0, **changes: object
) -> Resident:
    """An engine whose turn has lasted so long; idle for `idle_s`, busy if that is 0."""
    fields = {"busy": idle_s == 0.0, "since": NOW - turn_s, "used_at": NOW - idle_s, **changes}
    return Resident(key=(name, 1), cost=cost, **fields)  # type: ignore[arg-type]


def wanting(name: str, cost: int = 1, *, for_s: float = 0.0, measured: bool = True) -> Wanting:
    return Wanting(key=(name, 1), cost=cost, since=NOW - for_s, measured=measured)


def decide(residents: list[Resident], wants: list[Wanting], budget: int | None = 3) -> tuple[str, str]:
    """The names to load and to unload."""
    choice = choose(residents, wants, budget=budget, now=NOW)
    return names(choice.load), names(choice.unload)


def names(keys: tuple[ModelKey, ...]) -> str:
    return "".join(name for name, _ in keys)


def test_without_a_limit_everyone_is_loaded_at_once() -> None:
    assert decide([], [wanting(name, 9**9, measured=False) for name in "abc"], None) == ("abc", "")


def test_places_are_given_in_the_order_of_waiting() -> None:
    wants = [wanting("a", for_s=1), wanting("b", for_s=3), wanting("c", for_s=2), wanting("d", for_s=0)]
    assert decide([], wants) == ("bca", "")


def test_a_small_model_does_not_overtake_a_large_one() -> None:
    wants = [wanting("large", 3, for_s=2), wanting("small", 1, for_s=1)]
    assert decide([resident("a", 1)], wants) == ("", "")


def test_the_least_recently_used_dry_engine_makes_room_first() -> None:
    present = [resident("a", idle_s=DRY_AFTER_S), resident("b", idle_s=60), resident("c", turn_s=999)]
    assert decide(present, [wanting("d")]) == ("", "b")


@pytest.mark.parametrize(("turn_s", "unloaded"), [(LEAST_TURN_S, "a"), (LEAST_TURN_S - 0.1, "")])
def test_a_busy_engine_makes_room_once_it_has_had_its_turn(turn_s: float, unloaded: str) -> None:
    assert decide([resident("a", 3, turn_s=turn_s)], [wanting("b")]) == ("", unloaded)


def test_a_turn_is_long_beside_the_load() -> None:
    present = [resident("a", 3, turn_s=TURN_LOADS * 10 - 1, load_s=10)]
    assert decide(present, [wanting("b")]) == ("", "")


def test_an_engine_that_has_only_paused_is_not_dry() -> None:
    assert decide([resident("a", 3, idle_s=DRY_AFTER_S / 2)], [wanting("b")]) == ("", "")


def test_who_is_leaving_counts_until_gone_and_nobody_else_is_sent_away() -> None:
    present = [resident("a", 2, turn_s=99, leaving=True), resident("b", turn_s=99)]
    assert decide(present, [wanting("c", 2)]) == ("", "")


def test_no_room_is_made_while_it_would_not_be_enough() -> None:
    present = [resident("a", 1, idle_s=60), resident("b", 2)]
    assert decide(present, [wanting("c", 2)]) == ("", "")


def test_one_guess_is_loaded_and_measured_at_a_time() -> None:
    wants = [wanting("a", for_s=2, measured=False), wanting("b", for_s=1, measured=False)]
    assert decide([], wants) == ("a", "")
    assert decide([resident("a", ready=False, measured=False)], wants[1:]) == ("", "")
    assert decide([resident("a")], wants[1:]) == ("b", "")


def test_a_guess_beyond_the_budget_is_tried_alone() -> None:
    assert decide([resident("a", idle_s=60)], [wanting("b", 99)]) == ("", "a")
    assert decide([], [wanting("b", 99)]) == ("b", "")


def test_when_memory_is_short_the_least_recently_used_leaves_in_any_case() -> None:
    assert decide([resident("a", 2), resident("b", 2, idle_s=0.1)], []) == ("", "b")
    assert decide([resident("a", 9)], []) == ("", "")


def test_long_idle_engines_leave_but_for_the_last_one_used() -> None:
    present = [
        resident("a", idle_s=IDLE_S + 2),
        resident("b", idle_s=IDLE_S + 1),
        resident("c", idle_s=IDLE_S),
    ]
    assert decide(present, [], None) == ("", "ab")
    assert decide(present[:1], [], None) == ("", "")


class Trace:
    """Engines that load in `load_s`, end in `end_s`, and never run out of work; one tick lasts TICK_S."""

    TICK_S = 0.5

    def __init__(
        self, costs: dict[str, int], *, budget: int, load_s: float = 2.0, end_s: float = 1.0
    ) -> None:
        self.costs, self.budget, self.load_s, self.end_s = costs, budget, load_s, end_s
        self.now = 0.0
        self.engines: dict[str, Resident] = {}
        self.ends: dict[str, float] = {}
        self.waits = dict.fromkeys(costs, 0.0)
        self.longest_wait_s = dict.fromkeys(costs, 0.0)
        self.served_s = dict.fromkeys(costs, 0.0)
        self.peak = 0

    def run(self, seconds: float) -> None:
        while self.now < seconds:
            self.now += self.TICK_S
            self._pass()
            wants = [
                Wanting(key=(name, 1), cost=self.costs[name], since=at) for name, at in self.waits.items()
            ]
            self._do(choose(list(self.engines.values()), wants, budget=self.budget, now=self.now))
            self.peak = max(self.peak, sum(engine.cost for engine in self.engines.values()))

    def _pass(self) -> None:
        for name, engine in list(self.engines.items()):
            if engine.leaving and self.now >= self.ends[name]:
                del self.engines[name]
                self.waits[name] = self.now
            elif not engine.leaving:
                ready = self.now >= self.ends[name]
                since = self.now if ready and not engine.ready else engine.since
                self.engines[name] = self._engine(name, since, ready=ready)
                self.served_s[name] += self.TICK_S * ready

    def _do(self, choice: Choice) -> None:
        for name, _ in choice.load:
            waited = self.now - self.waits.pop(name)
            self.longest_wait_s[name] = max(self.longest_wait_s[name], waited)
            self.engines[name] = self._engine(name, self.now, ready=False)
            self.ends[name] = self.now + self.load_s
        for name, _ in choice.unload:
            self.engines[name] = self._engine(name, self.engines[name].since, leaving=True)
            self.ends[name] = self.now + self.end_s

    def _engine(self, name: str, since: float, *, ready: bool = True, leaving: bool = False) -> Resident:
        return Resident(
            key=(name, 1),
            cost=self.costs[name],
            since=since,
            used_at=self.now,
            load_s=self.load_s,
            ready=ready,
            busy=True,
            leaving=leaving,
        )


def test_twelve_models_that_never_run_dry_share_three_places_evenly() -> None:
    trace = Trace({f"m{number}": 1 for number in range(12)}, budget=3)
    trace.run(1200)
    turn_s = TURN_LOADS * trace.load_s + trace.load_s + trace.end_s + 2 * trace.TICK_S
    assert trace.peak == 3
    assert max(trace.longest_wait_s.values()) <= 12 / 3 * turn_s
    assert min(trace.served_s.values()) > 0.8 * max(trace.served_s.values())
    assert sum(trace.served_s.values()) > 0.7 * 3 * 1200, "most of the time goes into work, not into loading"


def test_a_large_model_among_small_ones_gets_its_turns() -> None:
    trace = Trace({**{f"m{number}": 1 for number in range(11)}, "large": 3}, budget=3)
    trace.run(1200)
    assert trace.peak == 3
    assert trace.served_s["large"] > 0
    assert max(trace.longest_wait_s.values()) < 120
