"""Schedules over HTTP and in the hands of a client: the same either way."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest

from shunter import Client
from shunter.producers.api import create_app
from shunter.storage.errors import Conflict, InvalidInput, NotFound
from shunter.storage.scoring.request import ScoringRequest
from shunter.storage.settings import Settings
from tests.api_server import serving
from tests.schedule_fleet import NOON, ScheduleFleet
from tests.scoring_fleet import MODEL


@pytest.fixture
def fleet(nightly_fleet: ScheduleFleet) -> ScheduleFleet:
    return nightly_fleet


@pytest.fixture
def settings(fleet: ScheduleFleet, database_url: str, redis_url: str) -> Settings:
    return Settings(
        database_url=database_url,
        redis_url=redis_url,
        object_store=(fleet.scoring.directory / "objects").as_uri(),
    )


@pytest.fixture(params=["direct", "http"])
def client(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Client]:
    if request.param == "direct":
        with Client(settings=settings) as client:
            yield client
        return
    with serving(create_app(settings)) as url, Client(url) as client:
        yield client


def add(client: Client, fleet: ScheduleFleet, name: str = "nightly", **options: Any) -> None:
    asked = fleet.definition().request
    request = ScoringRequest(model=MODEL, input=asked.input, output=f"{asked.output}-{name}", chunk_rows=4)
    client.add_schedule(name, request, **{"cron": "0 0 * * *", **options})


def test_a_schedule_is_added_looked_at_held_and_removed(client: Client, fleet: ScheduleFleet) -> None:
    add(client, fleet, timezone="Europe/Berlin", wait_for_input_s=60, incremental_by="n")
    nightly = client.schedule("nightly")
    status = nightly.status()
    assert status.definition["timezone"] == "Europe/Berlin"
    assert status.next_windows[0] == datetime(2026, 1, 10, 23, tzinfo=UTC)
    assert len(status.next_windows) == 3
    assert (status.definition["incremental_by"], status.watermark) == ("n", None)
    assert nightly.pause().paused
    assert not nightly.resume().paused
    assert nightly.pause_backfill().backfill.paused
    assert not nightly.resume_backfill().backfill.paused
    assert [found.name for found in client.backend.schedules.find()] == ["nightly"]
    nightly.remove()
    with pytest.raises(NotFound, match="no schedule is called 'nightly'"):
        nightly.status()


def test_windows_are_run_filled_in_and_told_of(client: Client, fleet: ScheduleFleet) -> None:
    add(client, fleet)
    nightly = client.schedule("nightly")
    fleet.write_input("2026-01-09")
    assert nightly.backfill(date(2026, 1, 8), date(2026, 1, 9)) == 2
    assert nightly.run().state == "pending"
    fleet.work()
    history = nightly.history()
    assert [(w.window_start.day, w.cause, w.state) for w in history] == [
        (10, "run", "failed"),
        (9, "backfill", "complete"),
        (8, "backfill", "failed"),
    ]
    assert (history[1].succeeded, history[1].failed, history[1].drift) == (6, 0, "-")
    assert history[0].error is not None
    assert history[0].error["code"] == "input_missing"
    assert list(nightly.history(before=history[0].window_start, limit=1)) == [history[1]]
    fleet.write_input("2026-01-10")
    assert nightly.run(window=history[0].window_start, again=True).state == "pending"


def test_refusals_are_the_same_either_way(client: Client, fleet: ScheduleFleet) -> None:
    for options in ({"cron": "0 0 31 2 *"}, {"timezone": "Mars"}, {"finish_by": "late"}, {"missed": "never"}):
        with pytest.raises(InvalidInput, match=next(iter(options))):
            add(client, fleet, **options)
    add(client, fleet)
    add(client, fleet)
    with pytest.raises(Conflict, match="says something else"):
        add(client, fleet, overlap="skip")
    nightly = client.schedule("nightly")
    with pytest.raises(InvalidInput, match="in their order"):
        nightly.backfill(date(2026, 1, 9), date(2026, 1, 8))
    with pytest.raises(InvalidInput, match="has not begun"):
        nightly.run(window=NOON + timedelta(days=9))
    with pytest.raises(InvalidInput, match="offset"):
        nightly.run(window=datetime(2026, 1, 10))
    with pytest.raises(InvalidInput, match="name is"):
        client.schedule("Nightly!")


def test_schedules_and_windows_come_in_pages(settings: Settings, fleet: ScheduleFleet) -> None:
    with serving(create_app(settings)) as url, Client(url) as client, httpx.Client(base_url=url) as http:
        for name in ("a", "b", "c"):
            add(client, fleet, name)
        first = http.get("/v1/schedules", params={"limit": 2}).json()
        assert [each["name"] for each in first["schedules"]] == ["a", "b"]
        rest = http.get("/v1/schedules", params={"cursor": first["next_cursor"]}).json()
        assert [each["name"] for each in rest["schedules"]] == ["c"]
        assert rest["next_cursor"] is None
        client.schedule("a").backfill(date(2026, 1, 1), date(2026, 1, 3))
        page = http.get("/v1/schedules/a/history", params={"limit": 2}).json()
        assert [each["window_start"][:10] for each in page["windows"]] == ["2026-01-03", "2026-01-02"]
        page = http.get("/v1/schedules/a/history", params={"cursor": page["next_cursor"]}).json()
        assert [each["window_start"][:10] for each in page["windows"]] == ["2026-01-01"]
        refused = http.get("/v1/schedules/a/history", params={"cursor": "yesterday"})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_input")
