"""Urgent rows that come while a batch is closed and has not begun."""

from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shunter.storage.job import Priority
from shunter.storage.model_config import Batching
from shunter.workers.batch import Batch, Ticket
from shunter.workers.batcher import Batcher
from shunter.workers.shares import SHARE, Ledger
from tests.unit.test_batcher import fill, take, ticket

INTERACTIVE, STANDARD, BULK = Priority
FOUR = Batching(max_rows=4)


def values(batch: Batch[Ticket] | None) -> list[str]:
    assert batch is not None
    return [row.value for row in batch.rows]


def test_urgent_rows_take_the_seats_of_bulk_in_a_batch_that_has_not_begun() -> None:
    batcher: Batcher[Ticket] = Batcher(FOUR)
    fill(batcher, ticket(1, BULK), 6)
    prefetched = take(batcher, 1.0)
    fill(batcher, ticket(2, INTERACTIVE), 2, now=2.0)
    assert values(batcher.overtake(prefetched, 3.0)) == ["2/0", "2/1", "1/0", "1/1"]
    assert [values(batch) for batch in (take(batcher, 4.0),)] == [["1/2", "1/3", "1/4", "1/5"]]
    assert len(batcher) == 0


def test_a_batch_stays_as_it_is_when_nobody_more_urgent_has_come() -> None:
    batcher: Batcher[Ticket] = Batcher(FOUR)
    fill(batcher, ticket(1, STANDARD), 4)
    prefetched = take(batcher, 1.0)
    assert batcher.overtake(prefetched, 2.0) is None
    fill(batcher, ticket(2, STANDARD), 1, now=2.0)
    fill(batcher, ticket(3, BULK), 1, now=2.0)
    assert batcher.overtake(prefetched, 3.0) is None
    assert len(batcher) == 2


def test_seats_that_bulk_kept_from_urgent_rows_are_not_taken_afterwards() -> None:
    batcher: Batcher[Ticket] = Batcher(FOUR)
    fill(batcher, ticket(1, BULK), 4)
    fill(batcher, ticket(2, INTERACTIVE), 99)
    kept = take(batcher, 1.0)
    while "1/0" not in values(kept):
        kept = take(batcher, 1.0)
    fill(batcher, ticket(99, INTERACTIVE), 4, now=5.0)
    assert batcher.overtake(kept, 6.0) is None


@pytest.mark.parametrize("tokens", [0, 7])
def test_urgent_rows_of_another_shape_go_first_and_nothing_is_lost(tokens: int) -> None:
    batcher: Batcher[Ticket] = Batcher(FOUR)
    fill(batcher, ticket(1, BULK), 4, key="A", tokens=tokens)
    prefetched = take(batcher, 1.0)
    fill(batcher, ticket(2, INTERACTIVE), 1, now=2.0, key="B", tokens=tokens)
    assert values(batcher.overtake(prefetched, 3.0)) == ["2/0"]
    assert values(take(batcher, 4.0)) == ["1/0", "1/1", "1/2", "1/3"]


def test_bulk_has_its_share_though_it_is_overtaken_every_time() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=8))
    fill(batcher, ticket(1, BULK), 400)
    now, counts = 0.0, []
    for number in range(2, 82):
        prefetched = take(batcher, now)
        fill(batcher, ticket(number, INTERACTIVE), 8, now=now + 0.5)
        batch = batcher.overtake(prefetched, now + 0.6) or prefetched
        counts.append(sum(row.ticket.priority is BULK for row in batch.rows))
        now += 1.0
    assert sum(counts) >= SHARE * 8 * len(counts) - 8


def test_taking_back_a_settlement_leaves_what_was_owed_before() -> None:
    ledger = Ledger()
    for _ in range(3):
        ledger.settle({INTERACTIVE: 0.0, BULK: 0.0}, [1.0, 0.0, 0.0])
    before = ledger.seats(BULK, 64)
    ledger.undo(ledger.settle({INTERACTIVE: 0.0, BULK: 0.0}, [0.5, 0.0, 0.5]))
    assert ledger.seats(BULK, 64) == before


def test_what_was_closed_runs_at_once_though_more_would_fit_by_now() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=8, max_wait_s=100.0))
    fill(batcher, ticket(1, BULK), 8)
    prefetched = take(batcher, 1.0)
    fill(batcher, ticket(2, INTERACTIVE), 1, now=2.0)
    ended = replace(prefetched, rows=prefetched.rows[:3])
    assert values(batcher.overtake(ended, 3.0)) == ["2/0", "1/0", "1/1", "1/2"]
    assert len(batcher) == 0


@given(
    st.lists(st.tuples(st.sampled_from(list(Priority)), st.integers(1, 9), st.booleans()), max_size=30),
    st.sampled_from([0.0, 0.1, 100.0]),
)
def test_every_row_leaves_once_whoever_overtakes_whom(
    steps: list[tuple[Priority, int, bool]], max_wait_s: float
) -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=8, max_wait_s=max_wait_s))
    left: list[str] = []
    came: list[str] = []
    prefetched: Batch[Ticket] | None = None
    for number, (priority, count, runs) in enumerate(steps, start=1):
        fill(batcher, ticket(number, priority), count, now=float(number))
        came += [f"{number}/{index}" for index in range(count)]
        if prefetched is not None and runs:
            left += values(batcher.overtake(prefetched, number + 0.5) or prefetched)
            prefetched = None
        if prefetched is None:
            prefetched = batcher.next_batch(number + 0.5, idle=True)
    if prefetched is not None:
        left += values(prefetched)
    batcher.drain()
    left += [
        value
        for batch in islice(iter(lambda: batcher.next_batch(99.0, idle=True), None), 999)
        for value in values(batch)
    ]
    assert sorted(left) == sorted(came)
