"""What the stages of an engine tell of the rows they hold."""

from __future__ import annotations

from shunter.workers.announcements import row_spans
from shunter.workers.assembly import JobRun
from shunter.workers.batch import Row
from shunter.workers.messages import Run
from shunter.workers.spans import Span
from tests.jobs import claimed_job


def rows_of(run: JobRun, *indices: int) -> list[Row[JobRun]]:
    return [Row(run, index, None, 0.0) for index in indices]


def test_rows_are_named_in_their_order_neighbours_together() -> None:
    one, other = (JobRun.of(Run(claimed_job(rows=9)), now=0.0) for _ in range(2))
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
