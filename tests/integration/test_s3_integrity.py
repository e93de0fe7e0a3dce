"""Bytes that were damaged between us and S3 are neither stored nor handed out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from shunter.storage.errors import DamagedObject, ObjectStoreUnavailable
from shunter.storage.job import JobState, Move
from shunter.storage.object_store import READS_OF_DAMAGED, S3ObjectStore
from shunter.storage.outcome import Outcome
from shunter.storage.payload import encode_rows
from shunter.storage.scoring.chunk import Chunk, Span, encode_chunk
from shunter.storage.scoring.sources import find_sources
from shunter.storage.scoring.spec import Spec
from shunter.workers import retry
from tests.engine_process import EngineProcess, job_of, write_model
from tests.faults.faulty_s3 import FaultyS3
from tests.object_store_servers import ACCESS_KEY, BUCKET, SECRET_KEY, damage, moto_server

BYTES = b"0123456789" * 1000

SAME = """
    class Model:
        def forward(self, rows):
            return rows
"""


@pytest.fixture
def s3() -> Iterator[tuple[FaultyS3, S3ObjectStore]]:
    with moto_server() as access, FaultyS3(access.endpoint_url or "") as faulty:
        yield faulty, S3ObjectStore(BUCKET, access=replace(access, endpoint_url=faulty.url, attempts=1))


def test_an_object_that_comes_damaged_twice_is_not_handed_out(s3: tuple[FaultyS3, S3ObjectStore]) -> None:
    faulty, store = s3
    store.put("whole", BYTES)
    faulty.strike("damaged", ("GET", "/whole"))
    with pytest.raises(DamagedObject, match="'whole' are not those that were written"):
        store.get("whole")
    assert faulty.struck["damaged"] == READS_OF_DAMAGED
    faulty.heal()
    assert store.get("whole") == BYTES


def test_an_object_that_was_damaged_on_its_way_is_not_stored(s3: tuple[FaultyS3, S3ObjectStore]) -> None:
    faulty, store = s3
    store.put("kept", BYTES)
    faulty.strike("damaged", ("PUT", "/kept"))
    with pytest.raises(ObjectStoreUnavailable):
        store.put("kept", BYTES[::-1])
    faulty.heal()
    assert store.get("kept") == BYTES


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3ObjectStore]:
    """A bucket that the AWS_ variables lead to, those of engines as well."""
    with moto_server() as access:
        monkeypatch.setenv("AWS_ENDPOINT_URL", str(access.endpoint_url))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield S3ObjectStore(BUCKET)


def test_a_job_whose_input_lies_there_damaged_is_tried_as_often_as_its_model_says_and_fails(
    bucket: S3ObjectStore, tmp_path: Path
) -> None:
    bucket.put("inputs/20261122/one", encode_rows([1, 2]))
    damage("inputs/20261122/one")
    with EngineProcess(write_model(tmp_path, SAME), store=bucket.url).loaded() as engine:
        (outcome,) = engine.run(job_of([1, 2], input_key="inputs/20261122/one"))
    assert (outcome.move, outcome.counts_attempt) == (Move.RETRY, True)
    assert limited(outcome, attempts=0).move is Move.RETRY
    last = limited(outcome, attempts=2)
    assert (last.state, (last.error or {})["code"]) == (JobState.FAILED, "damaged_object")
    assert "'inputs/20261122/one' are not those that were written" in (last.error or {})["message"]


def test_a_chunk_that_meets_a_damaged_object_is_tried_again(bucket: S3ObjectStore, tmp_path: Path) -> None:
    bucket.put("errors.jsonl", b'{"row": 1}\n')
    damage("errors.jsonl")
    (tmp_path / "in.jsonl").write_bytes(b"1\n2\n")
    (source,) = find_sources(str(tmp_path / "in.jsonl"))
    chunk = Chunk(
        scoring=uuid4(),
        number=0,
        source=source,
        span=Span(file=0, rows=2, first_row=0, stop=4, only=f"{bucket.url}/errors.jsonl", failed=1),
        spec=Spec(
            model="test",
            version=1,
            input=source.url,
            output=f"{tmp_path}/out",
            input_format="jsonl",
            output_format="jsonl",
            chunk_rows=2,
        ),
        parts=f"{tmp_path.as_uri()}/parts",
    )
    with EngineProcess(write_model(tmp_path, SAME), store=bucket.url).loaded() as engine:
        (outcome,) = engine.run(job_of([None], block=encode_chunk(chunk)))
    assert (outcome.move, outcome.counts_attempt) == (Move.RETRY, True)
    assert (outcome.error or {})["code"] == "damaged_object"


def limited(outcome: Outcome, *, attempts: int) -> Outcome:
    return retry.limit(outcome, attempts=attempts, max_attempts=3, rows=2, chance=0.0)
