"""Scorings over HTTP, and the client's handles on them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from shunter import Client
from shunter.producers.api import create_app
from shunter.producers.scoring.request import ScoringRequest
from shunter.storage.errors import Conflict, InvalidInput, NotFound, WaitTimeout
from shunter.storage.settings import Settings
from tests.api_server import serving
from tests.scoring_fleet import MODEL, ScoringFleet, scoring_fleet, write_lines


@pytest.fixture
def fleet(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[ScoringFleet]:
    with scoring_fleet(database_url, redis_url, tmp_path) as fleet:
        write_lines(tmp_path / "in.jsonl", [b"%d" % n for n in range(10)])
        yield fleet


@pytest.fixture(params=["direct", "http"])
def client(
    request: pytest.FixtureRequest, fleet: ScoringFleet, database_url: str, redis_url: str
) -> Iterator[Client]:
    settings = Settings(
        database_url=database_url, redis_url=redis_url, object_store=fleet.directory.as_uri() + "/objects"
    )
    if request.param == "direct":
        with Client(settings=settings) as client:
            yield client
        return
    with serving(create_app(settings)) as url, Client(url) as client:
        yield client


def test_a_scoring_is_followed_to_its_end(client: Client, fleet: ScoringFleet) -> None:
    scoring = client.score(MODEL, fleet.directory / "in.jsonl", fleet.directory / "out", chunk_rows=4)
    assert (scoring.status().state, scoring.status().done) == ("running", False)
    with pytest.raises(WaitTimeout):
        scoring.wait(timeout=0)
    ended: list[object] = []
    waiting = threading.Thread(target=lambda: ended.append(scoring.wait(timeout=60)))
    waiting.start()
    status = fleet.end(fleet.scorer.get(UUID(scoring.id)))
    waiting.join()
    assert ended == [scoring.status()]
    assert (status.state, status.succeeded, status.failed) == ("complete", 10, 0)
    assert client.scoring(scoring.id).status() == scoring.status()
    assert [found.id for found in client.backend.scorings.find()] == [scoring.id]


def test_a_scoring_is_cancelled(client: Client, fleet: ScoringFleet) -> None:
    scoring = client.score(MODEL, fleet.directory / "in.jsonl", fleet.directory / "out")
    assert scoring.cancel().state == "cancelled"
    ended = fleet.score("in.jsonl", "other")
    with pytest.raises(Conflict, match="already complete"):
        client.scoring(ended.id).cancel()


def test_refusals_are_the_same_either_way(client: Client, fleet: ScoringFleet) -> None:
    with pytest.raises(NotFound, match="no file is at"):
        client.score(MODEL, fleet.directory / "missing.csv", fleet.directory / "out")
    with pytest.raises(InvalidInput, match="no model is called 'dubble'"):
        client.score("dubble", fleet.directory / "in.jsonl", fleet.directory / "out")
    with pytest.raises(NotFound, match="no scoring has the id"):
        client.scoring("0197a3c2-6d1e-7c4f-9b1a-5a0f6de2c1aa").status()


def test_failed_rows_are_run_again(client: Client, fleet: ScoringFleet) -> None:
    status = fleet.score("in.jsonl", model=lambda row: row * 2 if row != 3 else 1 // 0)
    assert status.failed == 1
    again = client.retry_errors(status.id)
    fleet.end(fleet.scorer.get(UUID(again.id)))
    assert again.status().succeeded == 1
    assert fleet.rows("out/retry-v1") == [{"prediction": 6}]


def test_what_a_scoring_costs_is_estimated(client: Client, fleet: ScoringFleet) -> None:
    request = ScoringRequest(
        model=MODEL, input=str(fleet.directory / "in.jsonl"), output=str(fleet.directory / "out")
    )
    estimate = client.backend.scorings.estimate(request)
    assert (estimate.rows, estimate.exact, estimate.workers, estimate.seconds) == (10, False, 0, None)
    assert "no worker serves it" in " ".join(estimate.lines())
    assert client.backend.scorings.find() == []
