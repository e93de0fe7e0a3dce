"""What a worker counts of its batches, and how the fleet's counters are summed up."""

from __future__ import annotations

from typing import Any

import pytest

from shunter.commands.batches import recent_row, version_row
from shunter.storage.batch_report import RECENT, join_key, split_key, sum_up
from shunter.workers.messages import BatchDone
from shunter.workers.stats import BatchStats


def batch(rows: int = 4, **facts: Any) -> BatchDone:
    return BatchDone(
        **{
            "rows": rows,
            "jobs": 2,
            "reason": "full",
            "full_rows": 4,
            "tokens": 0,
            "padded_tokens": 0,
            "wait_s": 0.5,
            "preprocess_s": 0.1,
            "forward_s": 1.0,
            "postprocess_s": 0.2,
            "forwards": 1,
            **facts,
        }
    )


def told(*batches: BatchDone, now: float = 10.0) -> dict[str, Any]:
    stats = BatchStats(0.0)
    for number, done in enumerate(batches, 1):
        stats.add(done, float(number))
    return stats.document(now)


def test_counters_add_up() -> None:
    document = told(batch(), batch(rows=1, reason="idle", forwards=3))
    assert (document["batches"], document["rows"], document["full_rows"], document["forwards"]) == (
        2,
        5,
        8,
        4,
    )
    assert document["sizes"] == {"1": 1, "4": 1}
    assert document["reasons"] == {"full": 1, "idle": 1}
    assert document["seconds"] == {"wait": 1.0, "preprocess": 0.2, "forward": 2.0, "postprocess": 0.4}


def test_the_latest_batches_are_told_newest_first_and_only_so_many() -> None:
    document = told(*[batch(jobs=number) for number in range(RECENT + 5)], now=100.0)
    assert [recent["jobs"] for recent in document["recent"]] == list(range(RECENT + 4, 4, -1))
    assert document["recent"][0]["age_s"] == 100.0 - (RECENT + 5)


def test_busy_is_the_share_of_the_time_since_the_start_while_that_is_short() -> None:
    assert told(batch(), batch(), now=8.0)["busy"] == 0.25


def test_busy_looks_back_a_minute() -> None:
    stats = BatchStats(0.0)
    stats.add(batch(forward_s=30.0), 30.0)
    for now in range(31, 200):
        document = stats.document(float(now))
    assert document["busy"] == 0.0
    stats.add(batch(forward_s=15.0), 199.0)
    assert stats.document(200.0)["busy"] == pytest.approx(0.25, abs=0.01)


def test_the_fleet_is_the_sum_of_its_workers() -> None:
    one = told(batch(tokens=30, padded_tokens=40), now=4.0)
    other = told(batch(rows=2, reason="idle", wait_s=1.5, tokens=30, padded_tokens=40), now=2.0)
    report = sum_up([one, other])
    assert (report["workers"], report["batches"], report["rows"], report["mean_rows"]) == (2, 2, 6, 3.0)
    assert (report["fill"], report["padding"], report["queue_s"]) == (0.75, 0.25, 1.0)
    assert report["reasons"] == {"full": 1, "idle": 1}
    assert [recent["age_s"] for recent in report["recent"]] == [1.0, 3.0]
    assert report["busy"] == pytest.approx((1 / 4 + 1 / 2) / 2)


def test_nothing_told_gives_no_ratios() -> None:
    report = sum_up([{}])
    assert [report[key] for key in ("mean_rows", "fill", "padding", "queue_s")] == [None] * 4
    assert (report["batches"], report["recent"], report["busy"]) == (0, [], 0.0)


def test_a_model_of_any_name_is_found_again() -> None:
    assert split_key(join_key("a:b", 12)) == ("a:b", 12)


def test_tables_say_why_batches_were_closed() -> None:
    report = sum_up([told(batch(), batch(), batch(), batch(rows=1, reason="idle"))])
    row = version_row({"model": "digits", "version": 3, **report})
    assert row[:4] == ("digits", 3, 4, "3.2")
    assert row[4:7] == ("81%", None, "500.0 ms")
    assert row[-1] == "full 75%, idle 25%"
    assert recent_row(report["recent"][0])[1:5] == (1, 4, 2, "idle")
