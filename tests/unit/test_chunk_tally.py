"""What chunks tell of their batches: a shared batch counts once, whoever's rows were in it."""

from __future__ import annotations

import pytest

from shunter.storage.outcome import RowFailure
from shunter.storage.scoring.chunk_figures import size_class, sum_figures, tenth
from shunter.workers.chunk_tally import ChunkTally, count_failures
from shunter.workers.messages import BatchDone


def batch(rows: int, *, full: int = 64, tokens: int = 0, padded: int = 0, reason: str = "full") -> BatchDone:
    return BatchDone(
        rows=rows,
        jobs=2,
        reason=reason,
        full_rows=full,
        tokens=tokens,
        padded_tokens=padded,
        wait_s=0.0,
        preprocess_s=1.0,
        forward_s=4.0,
        postprocess_s=2.0,
        forwards=1,
    )


def test_a_batch_that_two_chunks_share_counts_once() -> None:
    first, second = ChunkTally(), ChunkTally()
    shared = batch(64, tokens=90, padded=100)
    first.add(shared, rows=16)
    second.add(shared, rows=48)
    second.add(batch(8, reason="idle"), rows=8)
    summed = sum_figures([first.document(), second.document()])
    assert summed == {
        "batches": 2,
        "mean_rows": 36.0,
        "seconds": {"preprocess": 2.0, "forward": 8.0, "postprocess": 4.0},
        "sizes": {"8": 1.0, "64": 1.0},
        "fill": {"0.1": 1.0, "0.9": 1.0},
        "padding": {"0.1": 1.0},
        "reasons": {"full": 1.0, "idle": 1.0},
    }


def test_no_batch_has_no_mean() -> None:
    assert sum_figures([])["mean_rows"] is None


@pytest.mark.parametrize(("rows", "named"), [(1, "1"), (2, "2"), (3, "4"), (64, "64"), (65, "128")])
def test_sizes_are_counted_by_powers_of_two(rows: int, named: str) -> None:
    assert size_class(rows) == named


@pytest.mark.parametrize(
    ("share", "named"), [(0.0, "0.0"), (0.3, "0.3"), (0.7, "0.7"), (0.99, "0.9"), (1.0, "0.9")]
)
def test_shares_are_counted_by_tenths(share: float, named: str) -> None:
    assert tenth(share) == named


def test_failures_are_counted_by_code_with_one_message_each() -> None:
    failures = [
        RowFailure(0, "bad", "first"),
        RowFailure(3, "bad", "second"),
        RowFailure(4, "worse", "third"),
    ]
    assert count_failures(failures) == {"bad": (2, "first"), "worse": (1, "third")}
