"""Schedules as JSON, and back, also from an API that is older than who reads them."""

from __future__ import annotations

from datetime import UTC, datetime

from shunter.producers.schedules.documents import read_schedule_document, schedule_document
from shunter.producers.schedules.request import BackfillStatus, ScheduleStatus

MIDNIGHT = datetime(2026, 1, 10, tzinfo=UTC)
NIGHTLY = ScheduleStatus(
    name="nightly",
    definition={"cron": "0 0 * * *", "incremental": False},
    watermark=None,
    paused=False,
    next_windows=[MIDNIGHT],
    backfill=BackfillStatus(pending=1, running=0, at_once=2, paused=True),
    created_at=MIDNIGHT,
)


def test_a_schedule_is_read_as_it_was_written() -> None:
    assert read_schedule_document(schedule_document(NIGHTLY)) == NIGHTLY


def test_a_schedule_of_an_api_that_knows_no_watermarks_has_none() -> None:
    document = schedule_document(NIGHTLY)
    del document["watermark"]
    assert read_schedule_document(document) == NIGHTLY
