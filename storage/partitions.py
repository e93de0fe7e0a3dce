"""The weekly partitions of jobs, cut by the time in a UUIDv7, so that pruning is dropping a table."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

WEEK = timedelta(weeks=1)
WEEKS_AHEAD = 3

PREFIX = "jobs_"
DEFAULT = "jobs_default"
"""Holds ids that are not UUIDv7, and those of a week that has no partition of its own."""


def statements(now: datetime, *, weeks: int = WEEKS_AHEAD) -> Iterator[str]:
    """SQL that makes the partitions of this week and the next ones, unless they exist.

    A week whose rows already lie in the default partition keeps them there. Another process may be
    making the same partition: IF NOT EXISTS looks before it waits for that one.
    """
    # The weeks are cut in UTC, whatever zone the session's clock speaks in.
    now = now.astimezone(UTC)
    monday = datetime(now.year, now.month, now.day, tzinfo=UTC) - timedelta(days=now.weekday())
    for start in (monday + WEEK * week for week in range(weeks)):
        yield f"""
            DO $$ BEGIN
                CREATE TABLE IF NOT EXISTS {PREFIX}{start:%Y%m%d} PARTITION OF jobs
                FOR VALUES FROM ('{lowest_id(start)}') TO ('{lowest_id(start + WEEK)}');
            EXCEPTION WHEN check_violation OR duplicate_table OR unique_violation THEN NULL;
            END $$"""


def end_of(partition: str) -> datetime | None:
    """The end of the week that a partition of jobs holds; None for the default one, which holds any."""
    if partition == DEFAULT:
        return None
    return datetime.strptime(f"{partition.removeprefix(PREFIX)}+0000", "%Y%m%d%z") + WEEK


def lowest_id(moment: datetime) -> UUID:
    """The bound below every UUIDv7 made at or after a moment."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)
