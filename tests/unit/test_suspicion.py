"""Guilty rows are found by few deaths of the engine, and nobody else is blamed."""

from __future__ import annotations

import math
from collections.abc import Collection
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shunter.storage.job import Claim
from shunter.workers.isolation import Failure
from shunter.workers.retry import MAX_DEATHS
from shunter.workers.spans import RowName, Spans, rows_of, spans_of
from shunter.workers.suspicion import (
    LEAST_PATIENCE_S,
    PARTS,
    PROBE_PATIENCE,
    Suspicion,
    patience_s,
)
from tests.fake_engine import FakeEngine

VERDICT = Failure("engine_died", "it was this row")


def claim(number: int = 1) -> Claim:
    return Claim(UUID(int=number), 1)


def rows(count: int, number: int = 1) -> list[RowName]:
    return [(claim(number), index) for index in range(count)]


def group(start: int, stop: int, number: int = 1) -> Spans:
    return spans_of((claim(number), index) for index in range(start, stop))


def die(suspicion: Suspicion, *announced: Spans) -> Collection[Claim]:
    return suspicion.died(announced, [group(0, 40, 1), group(0, 2, 2)], VERDICT).charged


def search(engine: FakeEngine) -> None:
    """Serve one engine's jobs to the end."""
    engine.serve()
    assert engine.done == set(engine.rows) - engine.bad
    assert {row for row in engine.rows if engine.suspicion.guilty(row[0]).get(row[1])} == engine.bad


@pytest.mark.parametrize("bad", [1, 3, 17])
def test_k_guilty_rows_among_256_are_found_by_two_deaths_each_and_one_more(bad: int) -> None:
    for shift in range(5):
        guilty = {(claim(), (shift * 31 + number * 15) % 256) for number in range(bad)}
        engine = FakeEngine(rows(256), guilty, batch=256)
        search(engine)
        assert engine.deaths <= 1 + 2 * bad


def test_17_guilty_rows_in_17_batches_of_a_job_cost_it_nothing_else() -> None:
    guilty = {(claim(), number * 256 + number) for number in range(16)} | {(claim(), 4000)}
    engine = FakeEngine(rows(4096), guilty, batch=256)
    search(engine)
    assert engine.deaths <= 3 * 17
    assert engine.suspicion.charges(claim()) == 0


@given(
    st.integers(1, 400).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), max_size=20)))
)
def test_exactly_the_guilty_rows_are_found_and_the_deaths_are_bounded(case: tuple[int, set[int]]) -> None:
    count, bad = case
    engine = FakeEngine(rows(count), {(claim(), index) for index in bad}, batch=64, stages=2)
    search(engine)
    levels = math.ceil(math.log(64, PARTS)) + 1
    assert engine.deaths <= len(bad) * (levels + 1)
    assert engine.suspicion.charges(claim()) == 0
    assert engine.suspicion.withheld(claim()) == ()


def test_innocent_jobs_of_the_same_batch_are_charged_nothing_in_the_end() -> None:
    innocent, poisoned = rows(8, number=1), rows(8, number=2)
    engine = FakeEngine(innocent + poisoned, {(claim(2), 3)}, batch=16)
    search(engine)
    assert (engine.suspicion.charges(claim(1)), engine.suspicion.guilty(claim(1))) == (0, {})


def test_a_death_that_does_not_come_again_fails_nobody_and_is_charged_once() -> None:
    engine = FakeEngine(rows(256), set(), batch=64)
    engine.doomed = 1
    search(engine)
    assert engine.deaths == 1
    assert engine.suspicion.charges(claim()) == 1


def test_a_job_that_kills_engines_without_a_culprit_is_charged_until_it_fails() -> None:
    suspicion = Suspicion()
    for death in range(MAX_DEATHS):
        assert die(suspicion, group(0, 4)) == (claim(),)
        assert suspicion.charges(claim()) == death + 1
        while suspicion.next_round():
            suspicion.probed()
            for _ in range(3):
                suspicion.probed()


def test_suspects_run_only_in_probes_until_they_are_cleared() -> None:
    suspicion = Suspicion()
    die(suspicion, group(4, 6), group(8, 10))
    assert suspicion.withheld(claim()) == ((4, 5), (5, 6), (8, 10))
    probes = suspicion.next_round()
    assert [rows_of(probe) for probe in probes] == [
        [(claim(), 4)],
        [(claim(), 5)],
        [(claim(), 8), (claim(), 9)],
    ]
    assert suspicion.next_round() == (), "one round at a time"
    suspicion.probed()
    assert suspicion.withheld(claim()) == ((5, 6), (8, 10))


def test_the_jobs_under_search_are_told_until_their_rows_are_cleared_or_found_guilty() -> None:
    suspicion = Suspicion()
    assert suspicion.suspects() == ()
    die(suspicion, group(0, 1, number=1), group(0, 1, number=2))
    assert suspicion.suspects() == (claim(1), claim(2))
    suspicion.next_round()
    suspicion.probed()
    assert suspicion.suspects() == (claim(2),)
    die(suspicion, group(0, 1, number=2))
    assert (suspicion.suspects(), suspicion.guilty(claim(2))) == ((), {0: VERDICT})


def test_a_job_is_charged_again_only_when_its_cleared_rows_relapse() -> None:
    suspicion = Suspicion()
    assert die(suspicion, group(0, 2)) == (claim(),)
    assert die(suspicion, group(2, 4)) == ()
    suspicion.next_round()
    suspicion.probed()
    assert die(suspicion, group(0, 1)) == (claim(),)


def test_of_a_death_with_nothing_announced_everyone_who_was_there_is_suspect() -> None:
    suspicion = Suspicion()
    assert die(suspicion, group(30, 40)) == (claim(1),)
    assert die(suspicion) == (claim(2),)
    suspects = [row for claim_ in (claim(1), claim(2)) for row in suspicion.withheld(claim_)]
    assert sum(stop - start for start, stop in suspects) == 42, "nobody is suspect twice"


def test_a_row_that_runs_freely_is_never_found_guilty_by_a_death() -> None:
    suspicion = Suspicion()
    die(suspicion, group(0, 1))
    suspicion.next_round()
    die(suspicion, group(7, 8, number=2))
    assert (suspicion.guilty(claim(1)), suspicion.guilty(claim(2))) == ({}, {})
    assert suspicion.withheld(claim(1)) == ((0, 1),)


def test_a_job_that_is_gone_is_searched_no_more() -> None:
    suspicion = Suspicion()
    die(suspicion, (*group(0, 1, number=1), *group(0, 1, number=2)))
    round_ = suspicion.next_round()
    suspicion.forget(claim(1))
    assert suspicion.withheld(claim(1)) == ()
    for _ in round_:
        suspicion.probed()
    assert suspicion.withheld(claim(2)) == ()


def test_a_death_in_a_probe_of_which_a_job_was_dropped_still_divides_the_rest() -> None:
    suspicion = Suspicion()
    die(suspicion, (*group(0, 31, number=1), *group(0, 1, number=2)))
    *others, mixed = suspicion.next_round()
    for _ in others:
        suspicion.probed()
    assert mixed == (*group(30, 31, number=1), *group(0, 1, number=2))
    suspicion.forget(claim(1))
    assert die(suspicion, mixed) == ()
    assert suspicion.guilty(claim(2)) == {0: VERDICT}, "it was alone in the model but for what nobody wants"


def test_the_death_of_a_probe_of_dropped_rows_alone_makes_nobody_suspect() -> None:
    suspicion = Suspicion()
    die(suspicion, group(0, 1))
    (probe,) = suspicion.next_round()
    suspicion.forget(claim(1))
    assert die(suspicion, probe) == ()
    assert suspicion.next_round() == ()


def test_an_engine_that_ends_in_the_middle_of_a_round_leaves_the_rest_to_the_next() -> None:
    suspicion = Suspicion()
    die(suspicion, group(0, 3))
    suspicion.next_round()
    suspicion.probed()
    suspicion.engine_ended()
    assert suspicion.next_round() == (group(1, 2), group(2, 3))


def test_a_probe_may_take_many_times_the_slowest_batch_and_never_more_than_the_limit() -> None:
    assert patience_s(0.0, 30.0) == 30.0, "nothing has been measured"
    assert patience_s(0.01, 30.0) == LEAST_PATIENCE_S
    assert patience_s(2.0, 30.0) == 2.0 * PROBE_PATIENCE
    assert patience_s(20.0, 30.0) == 30.0


def test_an_engine_that_dies_before_any_probe_charges_its_jobs_each_time() -> None:
    suspicion = Suspicion()
    for deaths in range(1, MAX_DEATHS + 1):
        assert set(die(suspicion)) == {claim(1), claim(2)}
        assert suspicion.charges(claim(1)) == deaths
        suspicion.next_round()
