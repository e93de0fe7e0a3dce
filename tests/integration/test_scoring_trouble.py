"""Scorings that meet trouble of their own, which is no trouble of others."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shunter.producers.scoring.keys import DuplicateKey
from shunter.producers.scoring.request import ScoringStatus
from shunter.storage.errors import InvalidInput, ObjectStoreUnavailable
from shunter.storage.scoring.destination import open_destination
from tests.scoring_fleet import ScoringFleet, scoring_fleet, write_lines


@pytest.fixture
def fleet(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[ScoringFleet]:
    with scoring_fleet(database_url, redis_url, tmp_path) as fleet:
        yield fleet


def numbers(fleet: ScoringFleet, count: int = 10) -> Path:
    return write_lines(fleet.directory / "in.jsonl", [b"%d" % n for n in range(count)])


@contextmanager
def storage_out(fleet: ScoringFleet, begun: ScoringStatus) -> Iterator[None]:
    """The place where this scoring's output is staged does not answer: it is a link to itself."""
    parts = open_destination(str(fleet.directory / "out"), UUID(begun.id)).parts
    staging = Path(urlsplit(parts).path).parent
    aside = staging.with_name("aside")
    if staging.exists():
        staging.rename(aside)
    staging.symlink_to(staging)
    try:
        yield
    finally:
        staging.unlink()
        if aside.exists():
            aside.rename(staging)


def test_a_scoring_whose_storage_is_out_does_not_keep_younger_ones_from_being_planned(
    fleet: ScoringFleet,
) -> None:
    (fleet.directory / "in.jsonl.gz").write_bytes(gzip.compress(numbers(fleet).read_bytes()))
    older = fleet.begin("in.jsonl.gz")
    younger = fleet.begin("in.jsonl", "other")
    with storage_out(fleet, older):
        with pytest.raises(ObjectStoreUnavailable):
            fleet.plan()
        assert fleet.scorer.get(UUID(younger.id)).chunks == 3
        assert fleet.scorer.get(UUID(older.id)).chunks == 0
    assert fleet.end(older).succeeded == 10


def test_a_scoring_whose_storage_is_out_does_not_keep_younger_ones_from_being_published(
    fleet: ScoringFleet,
) -> None:
    numbers(fleet)
    older = fleet.begin("in.jsonl")
    younger = fleet.begin("in.jsonl", "other")
    fleet.plan()
    fleet.run()
    with storage_out(fleet, older):
        with pytest.raises(ObjectStoreUnavailable):
            fleet.finish()
        assert fleet.scorer.get(UUID(younger.id)).state == "complete"
    assert fleet.finish() == 1
    assert fleet.scorer.get(UUID(older.id)).state == "complete"


def test_chunks_whose_jobs_were_removed_before_they_were_taken_over_have_failed(fleet: ScoringFleet) -> None:
    numbers(fleet)
    begun = fleet.begin("in.jsonl")
    fleet.plan()
    fleet.run(limit=2)
    with fleet.database.transaction() as cursor:
        cursor.execute("DELETE FROM jobs WHERE id = (SELECT job FROM scoring_chunks WHERE number = 1)")
    status = fleet.end(begun)
    assert (status.state, status.succeeded, status.failed) == ("complete", 6, 4)
    assert [(line["row"], line["code"]) for line in fleet.errors()] == [
        (row, "job_removed") for row in range(4, 8)
    ]
    again = fleet.end(fleet.scorer.retry_errors(UUID(begun.id), output=None, version=None))
    assert (again.succeeded, again.failed) == (4, 0)


def test_an_errors_file_that_was_damaged_fails_the_rows_of_its_chunk(fleet: ScoringFleet) -> None:
    numbers(fleet)
    first = fleet.score("in.jsonl", model=lambda row: 1 // (row % 5))
    (damaged, _) = sorted((fleet.directory / "out" / "_errors").iterdir())
    damaged.write_bytes(damaged.read_bytes()[:-10])
    again = fleet.end(fleet.scorer.retry_errors(UUID(first.id), output=None, version=None))
    assert (again.state, again.succeeded, again.failed) == ("complete", 1, 1)
    (error,) = fleet.errors(f"out/retry-v{again.version}")
    assert (error["row"], error["code"]) == (None, "corrupt_payload")
    assert f"{damaged.name}, line 1 cannot be read" in error["message"]


@pytest.mark.parametrize("manifest", [b"", b"{", b"[1]", b'{"of": "somebody else"}'])
def test_somebody_elses_manifest_at_the_output_fails_the_scoring_in_words(
    fleet: ScoringFleet, manifest: bytes
) -> None:
    numbers(fleet)
    begun = fleet.begin("in.jsonl")
    (fleet.directory / "out").mkdir()
    (fleet.directory / "out" / "_shunter.json").write_bytes(manifest)
    status = fleet.end(begun)
    assert (status.state, status.error and status.error["code"]) == ("failed", "output_exists")
    assert (fleet.directory / "out" / "_shunter.json").read_bytes() == manifest


@pytest.mark.parametrize("format", ["jsonl", "csv", "parquet"])
def test_a_key_that_two_rows_have_is_told_before_anything_runs(fleet: ScoringFleet, format: str) -> None:
    keys = [b"a", b"b", b"c"]
    for name, more in (("one", b"d"), ("two", b"b")):
        path = fleet.directory / f"{name}.{format}"
        if format == "csv":
            write_lines(path, [b"k,x", *(b"%s,1" % key for key in [*keys, more])])
        elif format == "jsonl":
            write_lines(path, [b'{"k": "%s", "x": 1}' % key for key in [*keys, more]])
        else:
            rows = [{"k": key.decode(), "x": 1} for key in [*keys, more]]
            pq.write_table(pa.Table.from_pylist(rows), path)
    asked: dict[str, Any] = {"columns": ["x"], "key": "k", "check_keys": True}
    assert fleet.begin(f"one.{format}", **asked).total in (4, None)
    with pytest.raises(DuplicateKey, match=r"'b' stands in row 1 of \S+two\S+ and in row 3 of \S+two"):
        fleet.begin(f"two.{format}", "other", **asked)


@pytest.mark.parametrize("told", ["a\x00b", "a\ud800b", 17])
def test_a_failure_that_no_json_holds_fails_its_row_alone(fleet: ScoringFleet, told: Any) -> None:
    write_lines(fleet.directory / "in.jsonl", [b"0", b"1", b"2"])

    def model(row: int) -> int:
        if row == 1:
            raise InvalidInput(f"of {told}, which postgresql://me:secret@host told", code=told)
        return row

    status = fleet.score("in.jsonl", model=model)
    fleet.report()
    assert (status.state, status.succeeded, status.failed) == ("complete", 2, 1)
    (error,) = fleet.errors()
    assert (type(error["code"]), "secret" in error["message"]) == (str, False)
    (failure,) = fleet.scorer.report(UUID(status.id))["failures"]
    assert failure["code"] == error["code"]
