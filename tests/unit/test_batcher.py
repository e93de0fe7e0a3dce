"""The micro-batcher, with a clock of the test's own."""

from collections import defaultdict
from collections.abc import Hashable
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shunter.storage.job import Claim, Priority
from shunter.storage.model_config import Batching
from shunter.workers.batch import Batch, CloseReason, Row, Ticket, Timing
from shunter.workers.batcher import DEADLINE_MARGIN_S, FULL_LEAD_S, LULL_S, Batcher
from shunter.workers.ceilings import Ceilings
from shunter.workers.lane import ONLY_BUCKET
from shunter.workers.lengths import bucket_name
from shunter.workers.shares import SHARE
from shunter.workers.sizing import Sizing


def ticket(
    number: int = 1,
    priority: Priority = Priority.STANDARD,
    *,
    deadline: float | None = None,
) -> Ticket:
    return Ticket(Claim(UUID(int=number), 1), priority, deadline)


def fill(
    batcher: Batcher[Ticket],
    of: Ticket,
    count: int,
    *,
    now: float = 0.0,
    key: Hashable = None,
    tokens: int = 0,
) -> None:
    batcher.add(Row(of, index, f"{of.claim.id.int}/{index}", now, key, tokens) for index in range(count))


def take(
    batcher: Batcher[Ticket], now: float = 0.0, *, idle: bool = True, coming: bool = False
) -> Batch[Ticket]:
    batch = batcher.next_batch(now, idle=idle, more_coming=coming)
    assert batch is not None
    return batch


def take_all(batcher: Batcher[Ticket], now: float = 0.0) -> list[Batch[Ticket]]:
    return [take(batcher, now) for _ in iter(lambda: len(batcher), 0)]


def measured_at(*, seconds_per_row: float) -> Batcher[Ticket]:
    """A batcher that has measured some batches."""
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=8))
    for count in (1, 2, 3, 4, 5, 6):
        fill(batcher, ticket(99), count)
        batch = take(batcher)
        batcher.measured(batch, seconds_per_row * len(batch.rows))
    return batcher


def test_an_idle_model_takes_what_is_there() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=8))
    fill(batcher, ticket(), 3)
    batch = take(batcher, 1.5)
    assert (len(batch.rows), batch.reason, batch.wait_s) == (3, CloseReason.IDLE, 1.5)


def test_while_the_model_is_busy_the_next_batch_fills() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=8))
    fill(batcher, ticket(1), 7)
    assert batcher.next_batch(0.0, idle=False) is None
    fill(batcher, ticket(2), 1)
    batch = take(batcher, idle=False)
    assert (len(batch.rows), batch.reason) == (8, CloseReason.FULL)


def test_rows_of_many_jobs_share_a_batch_and_a_large_job_is_sliced() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=4))
    fill(batcher, ticket(1), 6)
    fill(batcher, ticket(2), 2)
    first, second = take_all(batcher)
    assert [row.value for row in first.rows] == ["1/0", "1/1", "1/2", "1/3"]
    assert [row.value for row in second.rows] == ["1/4", "1/5", "2/0", "2/1"]


def test_interleaved_shapes_give_full_batches_of_each() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=4))
    of = ticket()
    batcher.add(Row(of, index, index, 0.0, "AB"[index % 2]) for index in range(8))
    batches = take_all(batcher)
    assert [(batch.key, [row.index for row in batch.rows]) for batch in batches] == [
        ("A", [0, 2, 4, 6]),
        ("B", [1, 3, 5, 7]),
    ]


def test_tokens_bound_a_batch_and_a_row_that_is_too_long_goes_by_itself() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=100, max_tokens=64))
    fill(batcher, ticket(1), 5, tokens=16)
    fill(batcher, ticket(2), 2, tokens=512)
    assert sorted(len(batch.rows) for batch in take_all(batcher)) == [1, 1, 1, 4]


def test_max_wait_holds_a_partial_batch_and_then_closes_it() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=8, max_wait_s=0.5))
    fill(batcher, ticket(), 1, now=10.0)
    assert batcher.next_batch(10.4, idle=True) is None
    assert batcher.next_deadline(10.4) == 10.5
    assert take(batcher, 10.5, idle=False).reason is CloseReason.WAIT


def test_a_deadline_ends_the_wait() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=8, max_wait_s=60.0))
    fill(batcher, ticket(1), 1)
    fill(batcher, ticket(2, deadline=3.0), 1)
    moment = batcher.next_deadline(0.0)
    assert moment == 3.0 - DEADLINE_MARGIN_S
    assert batcher.next_batch(2.0, idle=True) is None
    assert take(batcher, moment).reason is CloseReason.DEADLINE


def test_a_lull_is_waited_for_only_while_more_is_coming() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=8))
    fill(batcher, ticket(), 1)
    assert batcher.next_batch(0.0, idle=True, more_coming=True) is None
    assert batcher.next_deadline(0.0) == LULL_S
    assert take(batcher, LULL_S, coming=True).reason is CloseReason.IDLE


def test_better_classes_go_first_and_bulk_fills_the_room_they_leave() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=4))
    fill(batcher, ticket(1, Priority.BULK), 5)
    fill(batcher, ticket(2, Priority.STANDARD), 1)
    fill(batcher, ticket(3, Priority.INTERACTIVE), 2)
    assert [row.value for row in take(batcher).rows] == ["3/0", "3/1", "2/0", "1/0"]


def test_bulk_is_never_starved_by_a_stream_of_interactive_rows() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=2))
    fill(batcher, ticket(1, Priority.BULK), 1)
    urgent = 0
    while True:
        fill(batcher, ticket(2, Priority.INTERACTIVE), 4)
        if Priority.BULK in {row.ticket.priority for row in take(batcher).rows}:
            break
        urgent += 1
    assert urgent == 1 / SHARE


def test_a_full_lane_does_not_starve_an_urgent_partial_one() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=4))
    fill(batcher, ticket(1, Priority.BULK), 4, key="full")
    fill(batcher, ticket(2, Priority.INTERACTIVE), 1, key="urgent")
    assert batcher.next_batch(0.0, idle=False) is None
    assert take(batcher).key == "urgent"


def test_a_full_lane_goes_before_a_partial_one_that_is_hardly_older() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=4))
    fill(batcher, ticket(1), 1, key="partial")
    fill(batcher, ticket(2), 4, key="full", now=FULL_LEAD_S / 2)
    assert take(batcher, 1.0).key == "full"


def test_rows_apart_share_batches_with_nothing_in_line_and_keep_the_limits() -> None:
    ceilings = Ceilings()
    ceilings.lower("B", 3, 0)
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=4, max_tokens=20), ceilings=ceilings)
    fill(batcher, ticket(1), 3, key="A")
    apart = [Row(ticket(2), n, None, 0.0, "A") for n in range(5)]
    apart += [Row(ticket(2), n, None, 0.0, "B") for n in range(4)]
    apart += [Row(ticket(2), n, None, 0.0, "C", 10) for n in range(3)]
    batches = batcher.apart(apart, 1.0)
    assert sorted((str(batch.key), len(batch.rows)) for batch in batches) == [
        ("A", 1),
        ("A", 4),
        ("B", 1),
        ("B", 3),
        ("C", 1),
        ("C", 2),
    ]
    assert {batch.reason for batch in batches} == {CloseReason.ALONE}
    assert [len(batch.rows) for batch in take_all(batcher)] == [3]


def test_removed_jobs_leave_nothing_behind() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=4))
    gone = ticket(1)
    fill(batcher, gone, 3, key="A")
    fill(batcher, gone, 3, key="B")
    fill(batcher, ticket(2), 1, key="B")
    assert batcher.remove(gone.claim) == 6
    assert [[row.value for row in batch.rows] for batch in take_all(batcher)] == [["2/0"]]


def test_draining_closes_every_batch_at_once() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=8, max_wait_s=60.0))
    fill(batcher, ticket(), 1)
    batcher.drain()
    assert take(batcher).reason is CloseReason.DRAIN


def test_a_lowered_ceiling_holds_for_its_key_only() -> None:
    ceilings = Ceilings()
    ceilings.lower("A", 2, 0)
    ceilings.lower("A", 4, 0)
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=8), ceilings=ceilings)
    fill(batcher, ticket(1), 8, key="A")
    fill(batcher, ticket(2), 8, key="B")
    assert sorted(len(batch.rows) for batch in take_all(batcher)) == [2, 2, 2, 2, 8]


def test_the_size_that_is_best_by_measurement_is_full() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=64))
    fill(batcher, ticket(), 10_000)
    for _ in range(300):
        batch = take(batcher, idle=False)
        assert batch.reason is CloseReason.FULL
        assert batch.limit == len(batch.rows)
        batcher.measured(batch, 0.01 + max(0, len(batch.rows) - 24) * 0.01)
    assert batcher.costs()["rows"]["rows"] == 24


@pytest.mark.parametrize("tokens", [0, 7])
def test_a_smaller_size_is_not_tried_at_the_cost_of_urgent_rows(tokens: int) -> None:
    bucket = bucket_name(tokens) if tokens else ONLY_BUCKET
    sizing = Sizing(64)
    sizing.warmed([Timing(64, tokens, 0.05, bucket)])
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=64), sizing)
    while sizing.rows(bucket, tokens) == 64:
        sizing.add(bucket, rows=64, length=tokens, work=64, seconds=0.05)
    tried = sizing.rows(bucket, tokens)
    assert tried < 64
    fill(batcher, ticket(1, Priority.BULK), 200, tokens=tokens)
    assert len(take(batcher, 1.0).rows) == tried
    fill(batcher, ticket(2, Priority.INTERACTIVE), tried + 8, tokens=tokens)
    assert len(take(batcher, 2.0).rows) == 64
    fill(batcher, ticket(3, Priority.INTERACTIVE), 8, tokens=tokens)
    assert len(take(batcher, 3.0).rows) == tried


def test_a_larger_size_is_found_while_urgent_rows_wait() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=64))
    fill(batcher, ticket(1, Priority.BULK), 10_000)
    fill(batcher, ticket(2, Priority.INTERACTIVE), 10_000)
    for _ in range(150):
        batcher.measured(take(batcher), 0.05)
    assert batcher.costs()[ONLY_BUCKET]["rows"] == 64


def test_a_batch_is_cut_so_that_the_deadline_in_it_is_kept() -> None:
    batcher = measured_at(seconds_per_row=1.0)
    fill(batcher, ticket(1), 4)
    fill(batcher, ticket(2, deadline=2.5), 2)
    first, second = take(batcher), take(batcher)
    assert ([row.value for row in first.rows], first.reason) == (["2/0", "2/1"], CloseReason.DEADLINE)
    assert [row.value for row in second.rows] == ["1/0", "1/1", "1/2", "1/3"]


def test_a_deadline_that_no_batch_can_keep_cuts_nothing() -> None:
    batcher = measured_at(seconds_per_row=1.0)
    fill(batcher, ticket(1, deadline=0.5), 4)
    batch = take(batcher)
    assert (len(batch.rows), batch.reason) == (4, CloseReason.IDLE)


def test_a_batch_tells_what_it_surely_takes() -> None:
    batcher = measured_at(seconds_per_row=1.0)
    fill(batcher, ticket(), 4)
    assert 2.0 < take(batcher).least_s < 4.0
    assert 0.0 < batcher.least_seconds() < 1.0


def test_only_the_first_deadline_in_line_ends_a_wait_and_it_goes_with_its_row() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=8, max_wait_s=60.0))
    soon, later = ticket(1, deadline=3.0), ticket(2, deadline=5.0)
    fill(batcher, soon, 1)
    fill(batcher, later, 2)
    batcher.remove(soon.claim)
    assert batcher.next_deadline(0.0) == 5.0 - DEADLINE_MARGIN_S


def test_nothing_to_do_is_no_batch_and_no_moment() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=8))
    assert batcher.next_batch(0.0, idle=True) is None
    assert batcher.next_deadline(0.0) is None


arrivals = st.lists(
    st.tuples(
        st.integers(1, 4),  # the job
        st.sampled_from("ABC"),  # the lane
        st.integers(1, 7),  # rows
        st.floats(0, 3),  # seconds since the arrival before
        st.booleans(),  # whether a batch is asked for in between
    ),
    max_size=30,
)


@pytest.mark.parametrize("max_wait_s", [0.0, 1.0])
@given(arrivals=arrivals, max_rows=st.integers(1, 9))
def test_every_row_comes_out_once_in_order_and_no_batch_is_too_large(
    max_wait_s: float, arrivals: list[tuple[int, str, int, float, bool]], max_rows: int
) -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=max_rows, max_wait_s=max_wait_s))
    jobs = {number: ticket(number, Priority(number % 3)) for number in range(1, 5)}
    added: dict[tuple[int, str], list[int]] = defaultdict(list)
    batches = []
    now, serial = 0.0, 0
    for number, key, count, gap, ask in arrivals:
        now += gap
        rows = range(serial, serial := serial + count)
        batcher.add(Row(jobs[number], index, None, now, key) for index in rows)
        added[number, key] += rows
        if ask:
            batches.append(batcher.next_batch(now, idle=number % 2 == 0))
    batcher.drain()
    batches += take_all(batcher, now)

    removed: dict[tuple[int, str], list[int]] = defaultdict(list)
    for batch in filter(None, batches):
        assert 1 <= len(batch.rows) <= max_rows
        assert {row.key for row in batch.rows} == {batch.key}
        for row in batch.rows:
            removed[row.ticket.claim.id.int, str(row.key)].append(row.index)
    assert removed == added


def test_a_batch_closes_before_the_row_that_would_take_it_past_its_bytes() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=8, max_bytes=100))
    batcher.add(Row(ticket(), n, n, 0.0, bytes=size) for n, size in enumerate([60, 40, 30, 80, 10]))
    batches = take_all(batcher)
    assert [[row.value for row in batch.rows] for batch in batches] == [[0, 1], [2], [3, 4]]
    assert [batch.reason for batch in batches] == [CloseReason.BYTES, CloseReason.BYTES, CloseReason.IDLE]


def test_enough_bytes_make_a_batch_full_while_the_model_is_busy() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=8, max_bytes=100))
    batcher.add([Row(ticket(), 0, 0, 0.0, bytes=99)])
    assert batcher.next_batch(0.0, idle=False) is None
    batcher.add([Row(ticket(), 1, 1, 0.0, bytes=1)])
    batch = take(batcher, idle=False)
    assert (len(batch.rows), batch.reason, len(batcher)) == (2, CloseReason.BYTES, 0)


def test_where_nothing_more_comes_into_line_a_batch_closes_though_it_might_wait_or_fill() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=8, max_wait_s=5.0))
    batcher.add([Row(ticket(), n, n, 0.0, bytes=1) for n in range(3)])
    for idle in (True, False):
        assert batcher.next_batch(0.0, idle=idle, more_coming=True) is None
    batch = batcher.next_batch(0.0, idle=False, more_coming=True, crowded=True)
    assert batch is not None
    assert (len(batch.rows), batch.reason) == (3, CloseReason.BYTES)


@pytest.mark.parametrize("tokens", [0, 5])
def test_a_row_larger_than_a_batch_goes_alone_and_removed_bytes_count_no_more(tokens: int) -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=8, max_bytes=100))
    batcher.add([Row(ticket(1), 0, "huge", 0.0, None, tokens, 500)])
    batcher.add([Row(ticket(2), 0, "small", 1.0, None, tokens, 5)])
    assert [row.value for row in take(batcher, 2.0, idle=False).rows] == ["huge"]
    batcher.add([Row(ticket(3), 0, "large", 2.0, None, tokens, 95)])
    assert batcher.remove(ticket(3).claim) == 1
    assert batcher.next_batch(3.0, idle=False) is None
