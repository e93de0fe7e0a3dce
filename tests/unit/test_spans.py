"""Rows named compactly."""

from __future__ import annotations

import pickle
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from shunter.storage.job import Claim
from shunter.workers.messages import Begun
from shunter.workers.spans import Span, claims_of, pack, rows_of, spans_of, split, unpack, without

A, B = Claim(UUID(int=1), 1), Claim(UUID(int=2), 7)

rows = st.lists(st.tuples(st.sampled_from([A, B]), st.integers(0, 20)), max_size=40, unique=True)


@given(rows)
def test_spans_are_the_same_rows_in_the_same_order(rows: list[tuple[Claim, int]]) -> None:
    spans = spans_of(rows)
    assert rows_of(spans) == rows
    assert unpack(pack(spans)) == spans
    assert set(claims_of(spans)) == {claim for claim, _ in rows}


def test_neighbours_of_one_job_are_one_span() -> None:
    assert spans_of([(A, 0), (A, 1), (B, 2), (B, 0)]) == (Span(A, 0, 2), Span(B, 2, 3), Span(B, 0, 1))


@given(rows, st.integers(1, 20))
def test_parts_are_of_nearly_equal_size_and_none_is_empty(rows: list[tuple[Claim, int]], parts: int) -> None:
    groups = split(spans_of(rows), parts)
    sizes = [len(rows_of(group)) for group in groups]
    assert [row for group in groups for row in rows_of(group)] == rows
    assert len(groups) == min(parts, len(rows))
    assert not sizes or max(sizes) - min(sizes) <= 1


@given(rows, rows)
def test_without_takes_rows_away(rows: list[tuple[Claim, int]], others: list[tuple[Claim, int]]) -> None:
    assert rows_of(without(spans_of(rows), others)) == [row for row in rows if row not in others]


def test_an_announcement_survives_the_pipe() -> None:
    begun = Begun("forward", (Span(A, 0, 2), Span(B, 2, 3)))
    assert pickle.loads(pickle.dumps(begun)) == begun
