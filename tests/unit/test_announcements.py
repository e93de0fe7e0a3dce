"""What the stages of an engine tell of the rows they hold, and what they tell together."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from shunter.storage.ids import new_id
from shunter.storage.job import Claim
from shunter.storage.model_config import Batching
from shunter.workers.announcements import Announcements, row_spans
from shunter.workers.assembly import JobRun
from shunter.workers.batch import Row
from shunter.workers.batcher import Batcher
from shunter.workers.line import Line
from shunter.workers.messages import Begun, Probed, Run, ToHub
from shunter.workers.spans import Span
from tests.jobs import claimed_job

SPANS = (Span(Claim(new_id(), 1), 0, 1),)


@pytest.fixture
def said() -> list[Sequence[ToHub]]:
    return []


@pytest.fixture
def announcements(said: list[Sequence[ToHub]]) -> Announcements:
    return Announcements(Line(Batcher(Batching()), bunch_rows=8), said.append)


def test_a_stage_is_told_before_and_after(announcements: Announcements, said: list[Sequence[ToHub]]) -> None:
    with announcements.hold("gather", SPANS):
        assert said == [[Begun("gather", SPANS)]]
    assert said[1:] == [[Begun("gather", ())]]


def test_the_end_of_a_stage_that_goes_on_is_told_with_what_follows(
    announcements: Announcements, said: list[Sequence[ToHub]]
) -> None:
    with announcements.hold("gather", SPANS, goes_on=True):
        pass
    assert len(said) == 1
    with announcements.hold("forward", SPANS, goes_on=True):
        assert said[1:] == [[Begun("gather", ()), Begun("forward", SPANS)]]
    announcements.send(Probed())
    assert said[2:] == [[Begun("forward", ()), Probed()]]


def test_whoever_has_nothing_to_add_tells_the_end_alone(
    announcements: Announcements, said: list[Sequence[ToHub]]
) -> None:
    with announcements.hold("forward", SPANS, goes_on=True):
        pass
    announcements.send()
    announcements.send()
    assert said[1:] == [[Begun("forward", ())]]


def rows_of(run: JobRun, *indices: int) -> list[Row[JobRun]]:
    return [Row(run, index, None, 0.0) for index in indices]


def test_rows_are_named_in_their_order_neighbours_together() -> None:
    one, other = (JobRun(Run(claimed_job(rows=9)), now=0.0) for _ in range(2))
    rows = rows_of(one, 0, 1, 2) + rows_of(other, 3, 5, 6) + rows_of(one, 8, 7)
    assert row_spans(rows) == (
        Span(one.claim, 0, 3),
        Span(other.claim, 3, 4),
        Span(other.claim, 5, 7),
        Span(one.claim, 8, 9),
        Span(one.claim, 7, 8),
    )


def test_no_rows_are_no_spans() -> None:
    assert row_spans([]) == ()
