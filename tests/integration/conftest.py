"""What several files of these tests begin with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from shunter.storage import failpoints
from shunter.workers.lists import Lists
from tests.schedule_fleet import NOON, ScheduleFleet, schedule_fleet
from tests.scoring_fleet import scoring_fleet


@pytest.fixture
def nightly_fleet(
    database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ScheduleFleet]:
    """A fleet without schedules, at noon."""
    with (
        scoring_fleet(database_url, redis_url, tmp_path) as scoring,
        schedule_fleet(scoring, monkeypatch, NOON) as fleet,
    ):
        yield fleet
    failpoints.arm("")


@pytest.fixture
def lists(redis_url: str) -> Iterator[Lists]:
    """The queues, as a worker sees them."""
    with closing(Lists(redis_url)) as lists:
        yield lists


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    """The same Redis, with as much memory as it wants afterwards."""
    with redis.Redis.from_url(redis_url) as client:
        yield client
        client.config_set("maxmemory", 0)
