"""Scorings into a table of Postgres: rows are inserted, or updated by their key."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from shunter.producers.scoring.request import ScoringStatus
from shunter.storage import failpoints
from shunter.storage.errors import DatabaseUnavailable, InvalidInput
from shunter.storage.scoring.table_sink import TableRefused, TableSink
from tests.scoring_fleet import ScoringFleet, scoring_fleet, write_lines

TABLE = """
DROP SCHEMA IF EXISTS theirs CASCADE; CREATE SCHEMA theirs;
CREATE TABLE theirs.scores (id text PRIMARY KEY, note text, low int, two float8[], told jsonb,
    kept int DEFAULT 7)
"""


@pytest.fixture
def fleet(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[ScoringFleet]:
    with scoring_fleet(database_url, redis_url, tmp_path) as fleet:
        ask(fleet, TABLE)
        yield fleet


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def ask(fleet: ScoringFleet, statement: str) -> list[tuple[Any, ...]]:
    with fleet.database.transaction() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def model(x: Any) -> dict[str, Any]:
    return {"low": x, "two": [x / 2, None], "told": {"it's": ['"', x]}}


def begin(fleet: ScoringFleet, url: str, file: str = "in.jsonl", **options: Any) -> ScoringStatus:
    asked = {"columns": ["x"], "key": "id", "keep": ["note"], **options}
    return fleet.begin(file, f"{url}#theirs.scores", **asked)


def numbers(fleet: ScoringFleet, count: int = 10, name: str = "in.jsonl") -> None:
    lines = [b'{"id": "n%d", "x": %d, "note": "a, \\"b\\"\\n%d"}' % (n, n, n) for n in range(count)]
    write_lines(fleet.directory / name, [b'{"id": "bad", "x": "?"}', *lines])


def test_rows_are_inserted_or_updated_by_their_key(fleet: ScoringFleet, database_url: str) -> None:
    ask(fleet, "INSERT INTO theirs.scores (id, note, kept) VALUES ('n3', 'old', 3), ('other', 'stays', 0)")
    numbers(fleet)
    status = fleet.end(begin(fleet, database_url), model=model)
    assert (status.state, status.succeeded, status.failed) == ("complete", 10, 1)
    assert status.output == f"{database_url}#theirs.scores"
    rows = ask(fleet, "SELECT id, note, low, two, told, kept FROM theirs.scores ORDER BY id")
    scored = [
        (f"n{n}", f'a, "b"\n{n}', n, [n / 2, None], {"it's": ['"', n]}, 3 if n == 3 else 7) for n in range(10)
    ]
    assert rows == [*scored, ("other", "stays", None, None, None, 0)]


def test_a_finisher_that_stops_before_the_end_fills_the_table_again(
    fleet: ScoringFleet, database_url: str
) -> None:
    numbers(fleet)
    begun = begin(fleet, database_url)
    fleet.plan()
    fleet.run(model)
    failpoints.arm("dataset.published=error")
    with pytest.raises(DatabaseUnavailable):
        fleet.finish()
    assert ask(fleet, "SELECT count(*) FROM theirs.scores") == [(0,)]
    failpoints.arm("")
    assert fleet.finish() == 1
    assert fleet.scorer.get(UUID(begun.id)).state == "complete"
    assert ask(fleet, "SELECT count(*) FROM theirs.scores") == [(10,)]


def test_a_table_that_cannot_be_written_by_key_is_refused_before_anything_runs(
    fleet: ScoringFleet, database_url: str
) -> None:
    numbers(fleet)
    for url, options, words in (
        (f"{database_url}#theirs.none", {"key": "id"}, r"there is no table 'theirs.none'"),
        (f"{database_url}#theirs.scores", {"key": "x"}, r"theirs.scores has no column 'x': add it"),
        (f"{database_url}#theirs.scores", {"key": "note"}, r"no unique index on 'note' alone"),
        (f"{database_url}#theirs.scores", {}, r"name the key"),
        (database_url, {"key": "id"}, r"name the table behind a #"),
        ("postgresql://me:secret@localhost/db#t", {"key": "id"}, r"holds no password"),
    ):
        with pytest.raises(InvalidInput, match=words):
            fleet.begin("in.jsonl", url, columns=["x"], **options)


def test_a_retry_into_a_table_is_refused(fleet: ScoringFleet, database_url: str) -> None:
    numbers(fleet)
    first = fleet.end(begin(fleet, database_url), model=model)
    with pytest.raises(InvalidInput, match="a retry writes files") as refused:
        fleet.scorer.retry_errors(UUID(first.id), output=f"{database_url}#theirs.scores", version=None)
    assert refused.value.field == "output"


def test_a_table_that_somebody_holds_is_unavailable_until_it_is_let_go(
    fleet: ScoringFleet, database_url: str
) -> None:
    sink = TableSink(f"{database_url}#theirs.scores", "id", lock_timeout_s=0.1)
    rows = pa.table({"id": ["a"], "low": [1]})
    with fleet.database.transaction() as cursor:
        cursor.execute("LOCK TABLE theirs.scores IN SHARE MODE")
        with pytest.raises(DatabaseUnavailable, match="lock timeout"):
            sink.upsert([rows])
    sink.upsert([rows])
    assert ask(fleet, "SELECT id, low FROM theirs.scores") == [("a", 1)]


WITHOUT_PYARROW = """
import sys
sys.modules["pyarrow"] = None
from shunter.storage.database import Database
from shunter.storage.job_repair import JobRepair
from shunter.workers.scoring_finisher import ScoringFinisher
ended = ScoringFinisher(JobRepair(Database(sys.argv[1]))).run_once()
print(ended)
"""


def test_a_hub_without_pyarrow_leaves_the_table_to_another_and_says_what_to_install(
    fleet: ScoringFleet, database_url: str
) -> None:
    numbers(fleet)
    begun = begin(fleet, database_url)
    fleet.plan()
    fleet.run(model)
    fleet.plan()
    command = [sys.executable, "-c", WITHOUT_PYARROW, database_url]
    poor = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (poor.returncode, poor.stdout) == (0, "0\n"), poor.stderr
    assert "install shunter[scoring] where workers run" in poor.stderr
    assert fleet.end(begun, model=model).state == "complete"


def test_two_rows_of_one_key_and_a_column_that_is_not_there_fail_the_scoring_in_words(
    fleet: ScoringFleet, database_url: str
) -> None:
    write_lines(fleet.directory / "in.jsonl", [b'{"id": "a", "x": 1}'] * 2)
    twice = fleet.end(begin(fleet, database_url, keep=[]), model=model)
    assert (twice.state, twice.error and twice.error["code"]) == ("failed", TableRefused.code)
    numbers(fleet, name="more.jsonl")
    strange = fleet.end(begin(fleet, database_url, "more.jsonl"), model=lambda x: {"high": x})
    assert strange.error is not None
    assert "has no column 'high': add it" in strange.error["message"]
    assert ask(fleet, "SELECT count(*) FROM theirs.scores") == [(0,)]


def test_scorings_into_one_table_are_compared_with_each_other(fleet: ScoringFleet, database_url: str) -> None:
    ids = []
    for name in ("1.jsonl", "2.jsonl"):
        numbers(fleet, count=50, name=name)
        ids.append(fleet.end(begin(fleet, database_url, name), model=model).id)
        fleet.report()
    report = fleet.scorer.report(UUID(ids[1]))
    assert report["drift"]["against"]["previous"]["scoring"] == ids[0]
    assert report["scoring"]["output"] == f"{database_url}#theirs.scores"
