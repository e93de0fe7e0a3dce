"""Rows that refer to objects, through a real engine: the objects take the places of their names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shunter.storage.reference_reader import MAX_OBJECT_BYTES, FetchRefused, FetchTooLarge, ReferenceReader
from shunter.storage.scoring.chunk import Chunk, Span, encode_chunk
from shunter.storage.scoring.sources import find_sources
from shunter.storage.scoring.spec import Spec
from shunter.workers.messages import Begun
from tests.engine_process import EngineProcess, job_of, outputs_of, start_engine
from tests.object_store_servers import BUCKET, moto_server

SHOW = """
    class Model:
        def forward(self, rows):
            return [repr(row) for row in rows]
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EngineProcess]:
    """Its object store is `objects`, below which rows may refer to things."""
    (tmp_path / "objects").mkdir()
    with start_engine(tmp_path, SHOW) as engine:
        yield engine.loaded()


def an_object(tmp_path: Path, name: str, data: bytes) -> str:
    path = tmp_path / "objects" / name
    path.write_bytes(data)
    return path.as_uri()


def whole_file(tmp_path: Path, *, rows: int, **asked: Any) -> Chunk:
    """A chunk of all rows of `in.parquet`, as it is by now; what it makes goes to `parts`."""
    (source,) = find_sources(str(tmp_path / "in.parquet"))
    spec = Spec(
        model="tiny",
        version=1,
        input=source.url,
        output=str(tmp_path / "out"),
        input_format="parquet",
        output_format="jsonl",
        chunk_rows=rows,
        **asked,
    )
    span, parts = Span(file=0, rows=rows, first_row=0), (tmp_path / "parts").as_uri()
    return Chunk(scoring=uuid4(), number=0, source=source, span=span, spec=spec, parts=parts)


def test_rows_may_be_references_or_hold_some(engine: EngineProcess, tmp_path: Path) -> None:
    one, other = an_object(tmp_path, "one", b"1"), an_object(tmp_path, "o ther", b"2")
    rows = [{"$ref": one}, {"a": [{"$ref": one}, {"$ref": other}], "b": 3}, 7, {"$ref": one, "more": 1}]
    assert outputs_of(engine.run_rows(rows)) == [
        "b'1'",
        "{'a': [b'1', b'2'], 'b': 3}",
        "7",
        repr({"$ref": one, "more": 1}),
    ]


def test_what_cannot_be_had_fails_its_row_alone(engine: EngineProcess, tmp_path: Path) -> None:
    there = an_object(tmp_path, "there", b"x")
    with (tmp_path / "objects" / "large").open("wb") as file:
        file.truncate(MAX_OBJECT_BYTES + 1)
    (tmp_path / "secret").write_bytes(b"y")
    (tmp_path / "objects" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "objects" / "loop").symlink_to(tmp_path / "objects" / "loop")
    os.mkfifo(tmp_path / "objects" / "pipe")
    urls = [
        there,
        there + "-not",
        (tmp_path / "objects" / "large").as_uri(),
        (tmp_path / "secret").as_uri(),
        f"{(tmp_path / 'objects').as_uri()}/../secret",
        (tmp_path / "objects" / "link").as_uri(),
        "s3://elsewhere/key",
        "http://localhost/",
        (tmp_path / "objects" / "loop").as_uri(),
        (tmp_path / "objects" / "pipe").as_uri(),
    ]
    outcome = engine.run_rows([{"$ref": url} for url in urls])
    assert outputs_of(outcome)[0] == "b'x'"
    refused = [(index, "fetch_refused") for index in range(3, 9)]
    told = [(failure.index, failure.code) for failure in outcome.failures]
    assert told == [(1, "fetch_not_found"), (2, "fetch_too_large"), *refused, (9, "fetch_not_found")]


def test_a_chunk_that_cannot_be_read_leaves_nothing_suspect(engine: EngineProcess, tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": range(3)}), tmp_path / "in.parquet")
    chunk = whole_file(tmp_path, rows=3, columns=("x",))
    (tmp_path / "in.parquet").write_bytes(b"torn")
    (outcome,) = engine.run(job_of([None] * 3, block=encode_chunk(chunk)))
    assert outcome.error is not None
    assert [m.spans for m in engine.heard if isinstance(m, Begun) and m.stage == "decode"][-1] == ()


def test_a_column_of_urls_is_fetched_for_the_rows_of_a_chunk(engine: EngineProcess, tmp_path: Path) -> None:
    urls = [an_object(tmp_path, f"n{n}", b"%d" % n) for n in range(1500)]
    urls[1200] += "-not"
    pq.write_table(pa.table({"id": range(1501), "url": [*urls, None]}), tmp_path / "in.parquet")
    chunk = whole_file(tmp_path, rows=1501, columns=("url",), key="id", fetch=("url",))
    (outcome,) = engine.run(job_of([None] * 1501, block=encode_chunk(chunk)))
    assert outcome.output is not None
    assert outcome.output.inline is not None
    part = orjson.loads(outcome.output.inline)
    lines = (tmp_path / "parts" / part["rows_key"]).read_bytes().splitlines()
    expected = [{"id": n, "prediction": repr(b"%d" % n)} for n in range(1500) if n != 1200]
    assert [orjson.loads(line) for line in lines] == expected
    errors = (tmp_path / "parts" / part["errors_key"]).read_bytes().splitlines()
    told = [(line["row"], line["code"]) for line in map(orjson.loads, errors)]
    assert told == [(1200, "fetch_not_found"), (1500, "bad_row")]


def test_objects_in_s3_may_have_any_name_and_are_capped_unread(tmp_path: Path) -> None:
    with moto_server() as access:
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=access.endpoint_url,
            aws_access_key_id=access.access_key,
            aws_secret_access_key=access.secret_key,
            region_name=access.region,
        )
        client.put_object(Bucket=BUCKET, Key="refs/a name & more+.png", Body=b"12345")
        reader = ReferenceReader([f"s3://{BUCKET}/refs"], s3=access, most_bytes=5)
        url = f"s3://{BUCKET}/refs/a name & more+.png"
        assert reader.read(url) == b"12345"
        with pytest.raises(FetchTooLarge, match="5 bytes are more than the 4"):
            ReferenceReader([f"s3://{BUCKET}/refs/"], s3=access, most_bytes=4).read(url)
        with pytest.raises(FetchRefused, match="SHUNTER_FETCH_FROM"):
            ReferenceReader([f"s3://{BUCKET}/ref"], s3=access).read(url)
        assert ReferenceReader([], s3=access).read(url, trusted=[f"s3://{BUCKET}"]) == b"12345"
        client.close()
