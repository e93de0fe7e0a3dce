"""Scorings over HTTP, and the client's handles on them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from shunter import Client
from shunter.producers.scoring.staging import query_rows
from shunter.storage.errors import Conflict, InvalidInput, NotFound, WaitTimeout
from shunter.storage.scoring.request import ScoringRequest
from shunter.storage.settings import Settings
from tests.api_server import client_of
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
    with client_of(request.param, settings) as client:
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


def test_a_chunk_is_a_job_whose_rows_are_elsewhere(client: Client, fleet: ScoringFleet) -> None:
    status = fleet.score("in.jsonl")
    (chunk, *_) = fleet.jobs.find()
    job = client.job(chunk.id)
    assert job.status().metadata == {"scoring": status.id, "chunk": 2}
    with pytest.raises(InvalidInput, match="its rows are in the scoring's output"):
        job.outputs()


def test_what_a_scoring_costs_is_estimated(client: Client, fleet: ScoringFleet) -> None:
    request = ScoringRequest(
        model=MODEL, input=str(fleet.directory / "in.jsonl"), output=str(fleet.directory / "out")
    )
    estimate = client.backend.scorings.estimate(request)
    assert (estimate.rows, estimate.exact, estimate.workers, estimate.seconds) == (10, False, 0, None)
    assert "no worker serves it" in " ".join(estimate.lines())
    assert client.backend.scorings.find() == []


def test_rows_from_python_are_staged_first(client: Client, fleet: ScoringFleet, request: Any) -> None:
    rows = ({"id": f"n{n}", "x": n} for n in range(10))
    output = fleet.directory / "out"
    if "http" in request.node.name:
        with pytest.raises(InvalidInput, match="use a client without a URL"):
            client.score(MODEL, rows, output)
        return
    scoring = client.score(MODEL, rows, output, columns=["x"], key="id", chunk_rows=4)
    fleet.end(fleet.scorer.get(UUID(scoring.id)))
    assert fleet.rows() == [{"id": f"n{n}", "prediction": 2 * n} for n in range(10)]


def test_a_table_and_a_query_are_staged_first(fleet: ScoringFleet, database_url: str) -> None:
    numbers = pa.table({"x": list(range(20))}).slice(5, 7)
    fleet.score(fleet.scorer.stage(numbers), "of-a-table", columns=["x"])
    assert [row["prediction"] for row in fleet.rows("of-a-table")] == [2 * n for n in range(5, 12)]
    query = "SELECT n AS x, 'n' || n AS id FROM generate_series(1, 40000) AS n"
    fleet.score(
        fleet.scorer.stage(query_rows(database_url, query)), "of-a-query", columns=["x"], chunk_rows=9000
    )
    assert [row["prediction"] for row in fleet.rows("of-a-query")] == [2 * n for n in range(1, 40001)]


@pytest.mark.parametrize(
    ("rows", "refusal"),
    [
        ([], "there are no rows"),
        (7, "input is a int"),
        ({"x": 1}, "input is a dict"),
        ([1, 2], "give dicts of one shape"),
        ([{"x": 1}, {"x": "one"}], "give dicts of one shape"),
    ],
)
def test_rows_that_are_no_table_are_refused(fleet: ScoringFleet, rows: object, refusal: str) -> None:
    with pytest.raises(InvalidInput, match=refusal):
        fleet.scorer.stage(rows)


def test_a_bad_query_is_refused(fleet: ScoringFleet, database_url: str) -> None:
    with pytest.raises(InvalidInput, match="no_such_table"):
        fleet.scorer.stage(query_rows(database_url, "SELECT * FROM no_such_table"))
    with pytest.raises(InvalidInput, match="the query cannot be run"):
        fleet.scorer.stage(query_rows(database_url, "DELETE FROM jobs RETURNING id"))
