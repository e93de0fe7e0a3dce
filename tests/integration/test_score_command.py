"""`shunter score` and `shunter scorings`: what they print, and with what they exit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from shunter.cli import run
from tests.scoring_fleet import MODEL, Model, ScoringFleet, double, scoring_fleet, write_lines
from tests.waiting import wait_until


@pytest.fixture
def fleet(
    database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ScoringFleet]:
    monkeypatch.setenv("SHUNTER_DATABASE_URL", database_url)
    monkeypatch.setenv("SHUNTER_REDIS_URL", redis_url)
    monkeypatch.setenv("SHUNTER_OBJECT_STORE", (tmp_path / "objects").as_uri())
    with scoring_fleet(database_url, redis_url, tmp_path) as fleet:
        write_lines(tmp_path / "in.jsonl", [b'{"id": %d, "x": %d}' % (n, n) for n in range(10)])
        yield fleet


def score(fleet: ScoringFleet, *options: str, output: str = "out") -> int:
    """The command, with the columns of the test's input; its exit code."""
    places = ["--input", str(fleet.directory / "in.jsonl"), "--output", str(fleet.directory / output)]
    return run(["score", MODEL, *places, "--column", "x", "--key", "id", *options])


def work(fleet: ScoringFleet, model: Model = double) -> threading.Thread:
    """A fleet at work on the first scoring that comes."""

    def end() -> None:
        (begun,) = wait_until(fleet.scorer.find, timeout_s=60)
        fleet.end(begun, model=model)
        fleet.report()

    thread = threading.Thread(target=end)
    thread.start()
    return thread


def test_a_scoring_without_errors_exits_with_0(
    fleet: ScoringFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = work(fleet)
    assert score(fleet) == 0
    worker.join()
    told = capsys.readouterr().out
    assert "10/10, 10 succeeded, 0 failed" in told
    assert str(fleet.directory / "out") in told
    assert score(fleet, "--json") == 0
    assert orjson.loads(capsys.readouterr().out)["rows"] == {"total": 10, "succeeded": 10, "failed": 0}


def test_a_scoring_with_failed_rows_exits_with_3(
    fleet: ScoringFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = work(fleet, lambda row: row * 2 if row != 3 else 1 // 0)
    assert score(fleet) == 3
    worker.join()
    told = capsys.readouterr().out
    assert "out/_errors" in told
    assert "failed   1 x zero_division_error: " in told


def test_a_column_that_no_row_has_is_said_at_the_end(
    fleet: ScoringFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = work(fleet)
    assert score(fleet, "--column", "pixels") == 3
    worker.join()
    assert "failed   10 x missing_column: " in capsys.readouterr().out


def test_failures_without_a_report_are_told_where_to_look(
    fleet: ScoringFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    (fleet.directory / "in.jsonl").write_bytes(b"no row\n")
    fleet.score("in.jsonl", columns=["x"], key="id")
    with fleet.database.transaction() as cursor:
        cursor.execute("DELETE FROM scoring_reports")
    assert score(fleet) == 3
    assert "failed   shunter report " in capsys.readouterr().out


def test_a_scoring_that_fails_exits_with_1(fleet: ScoringFleet, capsys: pytest.CaptureFixture[str]) -> None:
    worker = work(fleet, lambda row: 1 // 0)
    assert score(fleet, "--max-errors", "2") == 1
    worker.join()
    assert "too_many_errors: 10 rows failed, and 2 may" in capsys.readouterr().out


def test_what_is_refused_exits_with_1(fleet: ScoringFleet, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["score", MODEL, "--input", str(fleet.directory / "none.csv"), "--output", "o"]) == 1
    assert "error: not_found: no file is at" in capsys.readouterr().err
    assert run(["score", MODEL]) == 2


def test_a_detached_scoring_is_listed_and_cancelled(
    fleet: ScoringFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(fleet, "--detach") == 0
    id = capsys.readouterr().out.strip()
    assert run(["scorings"]) == 0
    assert id in capsys.readouterr().out
    assert run(["scorings", "--cancel", id, "--json"]) == 0
    assert orjson.loads(capsys.readouterr().out)[0]["state"] == "cancelled"
    assert score(fleet) == 1


def test_a_dry_run_stores_nothing(fleet: ScoringFleet, capsys: pytest.CaptureFixture[str]) -> None:
    assert score(fleet, "--dry-run") == 0
    assert "about 10 rows in 1 files, for double version 1" in capsys.readouterr().out
    assert fleet.scorer.find() == []


def test_failed_rows_are_retried_by_id(fleet: ScoringFleet, capsys: pytest.CaptureFixture[str]) -> None:
    first = fleet.score("in.jsonl", columns=["x"], model=lambda row: row * 2 if row != 3 else 1 // 0)
    assert run(["score", "--retry-errors", first.id, "--detach"]) == 0
    again = capsys.readouterr().out.strip()
    assert again != first.id
    (retry, _) = fleet.scorer.find()
    assert (retry.id, fleet.end(retry).succeeded) == (again, 1)
