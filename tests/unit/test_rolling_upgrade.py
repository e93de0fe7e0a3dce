"""What is stored without the newest features has the keys that workers of the version before know."""

from __future__ import annotations

from uuid import uuid4

import orjson

from shunter.storage.schedules.definition import Definition
from shunter.storage.scoring.chunk import MAGIC, Chunk, Span, decode_chunk, encode_chunk
from shunter.storage.scoring.request import ScoringRequest
from shunter.storage.scoring.sources import Source
from shunter.storage.scoring.spec import Spec

SPAN = {"file", "rows", "first_row", "start", "stop", "staged", "only", "failed"}
SPEC = {
    *("model", "version", "input", "output", "input_format", "output_format", "columns", "key", "keep"),
    *("keep_failed", "max_errors", "priority", "chunk_rows", "kinds", "force", "retries"),
    *("fetch", "fetch_from", "table", "compare_to"),
}
DEFINITION = {
    *("cron", "request", "timezone", "missed", "overlap", "wait_for_input_s", "finish_by"),
    *("may_raise_priority", "incremental"),
}

PLAIN = Chunk(
    scoring=uuid4(),
    number=0,
    source=Source("/in", 1, "x"),
    span=Span(file=0, rows=1, first_row=0),
    spec=Spec(
        model="m",
        version=1,
        input="/in",
        output="/out",
        input_format="jsonl",
        output_format="parquet",
        chunk_rows=1,
    ),
    parts="file:///parts",
)


def test_a_plain_chunk_is_read_by_the_version_before() -> None:
    block = encode_chunk(PLAIN)
    document = orjson.loads(block.removeprefix(MAGIC))
    assert document["span"].keys() == PLAIN.span.document().keys() == SPAN
    assert document["spec"].keys() == PLAIN.spec.document().keys() == SPEC
    assert decode_chunk(block) == PLAIN


def test_a_plain_definition_is_read_by_the_version_before() -> None:
    plain = Definition(
        cron="0 3 * * *", request=ScoringRequest(model="m", input="/in/{date}", output="/out/{date}")
    )
    assert plain.document().keys() == DEFINITION
    assert Definition.from_document(plain.document()) == plain
