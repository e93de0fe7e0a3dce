"""Where a hub and Postgres disagree on what the hub holds."""

from __future__ import annotations

from uuid import uuid4

from shunter.storage.job import Claim
from shunter.workers.reconciliation import RECONCILE_INTERVAL_S, Reconciliation, compare
from tests.jobs import claimed_job


def test_comparing_finds_what_each_side_does_not_know() -> None:
    ours, cancelled, forgotten, new = (Claim(uuid4(), 1) for _ in range(4))
    difference = compare(before={ours, cancelled}, stored={ours, forgotten}, since={new})
    assert difference.lost == {cancelled}
    assert difference.unknown == {forgotten}


def test_what_was_settled_while_the_answer_was_on_its_way_is_not_unknown() -> None:
    settled = Claim(uuid4(), 1)
    assert compare(before={settled}, stored={settled}, since=()).unknown == frozenset()


def test_what_was_claimed_and_settled_while_the_answer_was_on_its_way_is_not_unknown() -> None:
    reconciliation, earlier, meanwhile = Reconciliation(), claimed_job(), claimed_job()
    reconciliation.claimed([earlier])
    reconciliation.asked(set(), 0.0)
    reconciliation.claimed([meanwhile])
    stored = {Claim(job.id, job.epoch) for job in (earlier, meanwhile)}
    assert reconciliation.answered(stored).unknown == {Claim(earlier.id, earlier.epoch)}


def test_one_question_is_asked_at_a_time_and_not_too_often() -> None:
    reconciliation, ours = Reconciliation(), Claim(uuid4(), 1)
    assert reconciliation.due(0.0)
    reconciliation.asked({ours}, 0.0)
    assert not reconciliation.due(2 * RECONCILE_INTERVAL_S)
    assert reconciliation.answered(set()).lost == {ours}
    assert not reconciliation.due(RECONCILE_INTERVAL_S - 1)
    assert reconciliation.due(RECONCILE_INTERVAL_S)


def test_a_question_that_an_outage_has_swallowed_is_asked_again() -> None:
    reconciliation = Reconciliation()
    reconciliation.asked(set(), 0.0)
    reconciliation.forget()
    assert reconciliation.due(RECONCILE_INTERVAL_S)
