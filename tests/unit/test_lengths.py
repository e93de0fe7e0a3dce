"""Batches of rows of many lengths: similar ones together, little padding, and nobody passed over."""

from __future__ import annotations

import random
from collections.abc import Iterable
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shunter.storage.job import Claim, Priority
from shunter.storage.model_config import Batching
from shunter.workers.batch import Batch, CloseReason, Row, Ticket
from shunter.workers.batcher import Batcher
from shunter.workers.lengths import (
    BUCKETS_PER_OCTAVE,
    FINE_STEPS,
    SHORTEST_BUCKET,
    fine_length,
    length_bucket,
)


def ticket(number: int = 1, priority: Priority = Priority.STANDARD, deadline: float | None = None) -> Ticket:
    return Ticket(Claim(UUID(int=number), 1), priority, deadline)


def add(batcher: Batcher[Ticket], lengths: Iterable[int], of: Ticket, now: float = 0.0) -> None:
    batcher.add(Row(of, index, None, now, None, length) for index, length in enumerate(lengths))


def take(batcher: Batcher[Ticket], now: float = 0.0, *, idle: bool = True) -> Batch[Ticket]:
    batch = batcher.next_batch(now, idle=idle)
    assert batch is not None
    return batch


def texts(count: int, chance: random.Random) -> list[int]:
    """Lengths of sentences: 20 tokens in the mean, 64 at most."""
    drawn = (int(chance.lognormvariate(2.85, 0.55)) for _ in range(4 * count))
    return [length for length in drawn if 1 <= length <= 64][:count]


@pytest.mark.parametrize(
    ("limits", "waiting"),
    [
        (Batching(max_rows=32), 400),
        (Batching(max_rows=256, max_tokens=512), 300),
        (Batching(max_rows=256, max_tokens=1024), 512),
        (Batching(), 512),
    ],
)
def test_less_than_a_tenth_is_padding_when_some_hundred_rows_wait(limits: Batching, waiting: int) -> None:
    batcher: Batcher[Ticket] = Batcher(limits)
    chance = random.Random(1)
    tokens = padded = 0
    for number in range(300):
        add(batcher, texts(waiting - len(batcher), chance), ticket(number), now=float(number))
        batch = take(batcher, float(number), idle=False)
        batcher.measured(batch, 0.010 + batch.padded_tokens / 2560)
        tokens += batch.tokens
        padded += batch.padded_tokens
    assert 1 - tokens / padded < 0.1


def test_the_oldest_row_is_in_the_next_batch_however_odd_its_length() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=8))
    add(batcher, [500], ticket(1), now=0.0)
    add(batcher, [5] * 100, ticket(2), now=1.0)
    assert 500 in [row.tokens for row in take(batcher, 1.0).rows]


def test_the_oldest_row_is_not_left_out_of_longer_ones_that_it_leads() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=8))
    add(batcher, [5], ticket(1), now=0.0)
    add(batcher, [100] * 7, ticket(2), now=1.0)
    assert 5 in [row.tokens for row in take(batcher, 1.0).rows]


def test_rows_too_unlike_go_in_batches_of_their_own() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=8))
    add(batcher, [500, 5, 5, 490, 5], ticket())
    short, long = take(batcher), take(batcher)
    assert [sorted(row.tokens for row in batch.rows) for batch in (short, long)] == [[5, 5, 5], [490, 500]]
    assert (short.pad_to, long.pad_to) == (5, fine_length(500))
    assert (long.reason, long.tokens, long.padded_tokens) == (CloseReason.IDLE, 990, 2 * long.pad_to)


def test_a_batch_is_closed_for_padding_only_when_many_wait() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=8))
    add(batcher, [500], ticket(1))
    add(batcher, [5] * 14, ticket(2), now=1.0)
    assert batcher.next_batch(1.0, idle=False) is None
    add(batcher, [5], ticket(3), now=2.0)
    batch = take(batcher, 2.0, idle=False)
    assert ([row.tokens for row in batch.rows], batch.reason) == ([500], CloseReason.PADDING)
    assert take(batcher, 2.0, idle=False).reason is CloseReason.FULL


def test_tokens_count_the_padding_unless_the_model_packs() -> None:
    lengths = [10, 40, 40, 10, 10, 10]
    padded: Batcher[Ticket] = Batcher(Batching(max_tokens=80))
    add(padded, lengths, ticket())
    assert {len(batch.rows) * batch.pad_to <= 80 for batch in (take(padded), take(padded))} == {True}

    packed: Batcher[Ticket] = Batcher(Batching(max_tokens=80, tokens="packed"))
    add(packed, lengths, ticket())
    first, second = take(packed), take(packed)
    assert ([row.tokens for row in first.rows], first.reason) == ([10, 40], CloseReason.TOKENS)
    assert ([row.tokens for row in second.rows], second.reason) == ([40, 10, 10, 10], CloseReason.IDLE)
    assert (first.tokens, first.padded_tokens, first.pad_to) == (50, 50, 40)


def test_a_row_longer_than_all_tokens_goes_by_itself() -> None:
    for tokens in ("padded", "packed"):
        batcher: Batcher[Ticket] = Batcher(Batching(max_tokens=64, tokens=tokens))
        add(batcher, [512, 512, 8], ticket())
        assert [len(take(batcher).rows) for _ in range(3)] == [1, 1, 1]


def test_bulk_rows_of_like_length_fill_the_room_that_urgent_ones_leave() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=4))
    add(batcher, [5, 50, 50, 49, 51], ticket(1, Priority.BULK))
    add(batcher, [50], ticket(2, Priority.INTERACTIVE), now=1.0)
    batch = take(batcher, 1.0)
    assert sorted(row.tokens for row in batch.rows) == [49, 50, 50, 50]
    assert batch.rows[0].ticket.priority is Priority.INTERACTIVE


def test_a_removed_job_leaves_its_lengths_to_others() -> None:
    batcher: Batcher[Ticket] = Batcher(Batching(max_rows=4))
    gone = ticket(1, deadline=9.0)
    add(batcher, [5, 6, 7], gone)
    add(batcher, [6], ticket(2))
    assert batcher.remove(gone.claim) == 3
    assert [(row.ticket.claim.id.int, row.tokens) for row in take(batcher).rows] == [(2, 6)]
    assert len(batcher) == 0


@given(
    lengths=st.lists(st.tuples(st.integers(1, 700), st.sampled_from(Priority)), min_size=1, max_size=80),
    max_rows=st.integers(1, 16),
    max_tokens=st.none() | st.integers(1, 2000),
    tokens=st.sampled_from(["padded", "packed"]),
)
def test_every_row_comes_out_once_within_the_limits(
    lengths: list[tuple[int, Priority]], max_rows: int, max_tokens: int | None, tokens: str
) -> None:
    limits = Batching(max_rows=max_rows, max_tokens=max_tokens, tokens=tokens)
    batcher: Batcher[Ticket] = Batcher(limits)
    for number, (length, priority) in enumerate(lengths):
        add(batcher, [length], ticket(number, priority), now=float(number))
    seen = []
    while len(batcher):
        batch = take(batcher, 100.0)
        assert 1 <= len(batch.rows) <= batch.limit <= max_rows
        assert max(row.tokens for row in batch.rows) <= batch.pad_to
        assert max_tokens is None or len(batch.rows) == 1 or batch.padded_tokens <= max_tokens
        seen += [row.ticket.claim.id.int for row in batch.rows]
    assert sorted(seen) == list(range(len(lengths)))


def test_lengths_are_rounded_up_a_little_and_buckets_by_a_quarter_at_most() -> None:
    for length in range(1, 5000):
        assert length <= fine_length(length) <= max(FINE_STEPS, length * (1 + 1 / FINE_STEPS))
        assert length <= length_bucket(length) <= max(SHORTEST_BUCKET, length * (1 + 1 / BUCKETS_PER_OCTAVE))
