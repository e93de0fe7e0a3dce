"""Scorings from and to an S3 server."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from uuid import UUID

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shunter.storage.errors import NotFound, ObjectStoreUnavailable
from shunter.storage.job_repair import JobRepair
from shunter.storage.object_store import S3ObjectStore
from shunter.storage.scoring.destination import OutputExists
from shunter.storage.scoring.sources import store_at
from shunter.workers.damage_count import DAMAGED_READS, REST_S, DamageCount
from shunter.workers.scoring_finisher import ScoringFinisher
from tests.object_store_servers import BUCKET, damage, moto_server
from tests.scoring_fleet import ScoringFleet, scoring_fleet


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3ObjectStore]:
    """A bucket that the AWS_ variables lead to."""
    with moto_server() as access:
        assert access.endpoint_url is not None
        monkeypatch.setenv("AWS_ENDPOINT_URL", access.endpoint_url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", str(access.access_key))
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", str(access.secret_key))
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        store_at.cache_clear()
        yield S3ObjectStore(BUCKET, access=access)
        store_at.cache_clear()


@pytest.fixture
def fleet(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[ScoringFleet]:
    with scoring_fleet(database_url, redis_url, tmp_path) as fleet:
        yield fleet


def write(bucket: S3ObjectStore, key: str, start: int, stop: int) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"x": list(range(start, stop))}), sink, row_group_size=3)
    bucket.put(key, sink.getvalue())


def predictions(bucket: S3ObjectStore, prefix: str) -> list[int]:
    manifest = orjson.loads(bucket.get(f"{prefix}/_shunter.json"))
    files = [bucket.get(f"{prefix}/{file['name']}") for file in manifest["files"]]
    return [row["prediction"] for file in files for row in pq.read_table(io.BytesIO(file)).to_pylist()]


def test_a_prefix_is_scored_to_another(fleet: ScoringFleet, bucket: S3ObjectStore) -> None:
    write(bucket, "in/a.parquet", 0, 10)
    write(bucket, "in/b.parquet", 10, 13)
    bucket.put("in/_SUCCESS", b"not a row")
    begun = fleet.begin(f"s3://{BUCKET}/in", f"s3://{BUCKET}/out", columns=["x"])
    fleet.plan()
    fleet.run(limit=1)
    assert not [info.key for info in bucket.list("out/part")]
    status = fleet.end(begun, model=lambda row: row * 2 if row != 11 else 1 // 0)
    assert (status.succeeded, status.failed) == (12, 1)
    assert predictions(bucket, "out") == [2 * n for n in range(13) if n != 11]
    assert fleet.report() == 1
    assert not [info.key for info in bucket.list("out/_shunter-")]
    again = fleet.end(fleet.scorer.retry_errors(UUID(status.id), output=None, version=None))
    assert (again.succeeded, predictions(bucket, "out/retry-v1")) == (1, [22])


def test_globs_and_lines_work_as_in_a_file_system(fleet: ScoringFleet, bucket: S3ObjectStore) -> None:
    bucket.put("lines/a.jsonl", b"1\n2\n")
    bucket.put("lines/b.txt", b"3\n")
    fleet.score(f"s3://{BUCKET}/lines/*.jsonl", f"s3://{BUCKET}/of-lines")
    assert predictions(bucket, "of-lines") == [2, 4]


def test_force_replaces_what_is_there(fleet: ScoringFleet, bucket: S3ObjectStore) -> None:
    bucket.put("one/a.jsonl", b"1\n")
    bucket.put("old/part-000009.parquet", b"of long ago")
    places = (f"s3://{BUCKET}/one", f"s3://{BUCKET}/old")
    with pytest.raises(OutputExists):
        fleet.begin(*places)
    fleet.score(*places, force=True)
    fleet.report()
    assert {info.key for info in bucket.list("old/")} == {"old/_shunter.json", "old/part-000000.parquet"}


def test_an_empty_prefix_is_refused(fleet: ScoringFleet, bucket: S3ObjectStore) -> None:
    with pytest.raises(NotFound, match="no file is at s3://"):
        fleet.begin(f"s3://{BUCKET}/nothing", f"s3://{BUCKET}/out")


def test_a_part_that_lies_there_damaged_fails_the_scoring_and_is_named(
    fleet: ScoringFleet, bucket: S3ObjectStore
) -> None:
    write(bucket, "alone/a.parquet", 0, 3)
    begun = fleet.begin(f"s3://{BUCKET}/alone", f"s3://{BUCKET}/damaged", columns=["x"])
    fleet.plan()
    fleet.run()
    (part,) = [info.key for info in bucket.list("damaged/_shunter-") if "/rows-" in info.key]
    damage(part)
    fleet.plan()
    clock = count(step=REST_S)
    fleet.finisher = ScoringFinisher(JobRepair(fleet.database), DamageCount(lambda: float(next(clock))))
    for _ in range(DAMAGED_READS - 1):
        with pytest.raises(ObjectStoreUnavailable, match="not those that were written"):
            fleet.finish()
    fleet.finish()
    status = fleet.scorer.get(UUID(begun.id))
    assert (status.state, (status.error or {})["code"]) == ("failed", "damaged_object")
    message = (status.error or {})["message"]
    assert part.rpartition("/")[2] in message
    assert "--force" in message


def test_rows_whose_errors_file_is_damaged_are_told_of_without_their_numbers(
    fleet: ScoringFleet, bucket: S3ObjectStore
) -> None:
    bucket.put("three/a.jsonl", b"1\n2\n3\n")
    places = (f"s3://{BUCKET}/three", f"s3://{BUCKET}/some")
    first = fleet.score(*places, model=lambda row: row * 2 if row == 1 else 1 // 0)
    damage("some/_errors/part-000000.jsonl")
    again = fleet.end(fleet.scorer.retry_errors(UUID(first.id), output=None, version=None))
    assert (again.state, again.failed) == ("complete", 2)
    told = bucket.get("some/retry-v1/_errors/part-000000.jsonl").splitlines()
    assert [(line["row"], line["code"]) for line in map(orjson.loads, told)] == [
        (None, "damaged_object"),
        (None, "damaged_object"),
    ]


def test_a_dataset_whose_manifest_is_damaged_is_replaced_by_force_alone(
    fleet: ScoringFleet, bucket: S3ObjectStore
) -> None:
    bucket.put("again/a.jsonl", b"1\n")
    places = (f"s3://{BUCKET}/again", f"s3://{BUCKET}/worn")
    fleet.score(*places)
    damage("worn/_shunter.json")
    assert fleet.score(*places, force=True).state == "complete"
    assert predictions(bucket, "worn") == [2]
    other = fleet.begin(places[0], f"s3://{BUCKET}/taken")
    bucket.put("taken/_shunter.json", b"{}")
    damage("taken/_shunter.json")
    assert (fleet.end(other).error or {})["code"] == "output_exists"
