"""Chunks in an engine: whatever lies in their files, and whatever a model makes of it, costs no other job."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shunter.storage.errors import ObjectStoreUnavailable, PayloadError
from shunter.storage.job import JobState
from shunter.storage.outcome import Outcome
from shunter.storage.scoring.chunk import Chunk, Part, Span, encode_chunk
from shunter.storage.scoring.sources import Source, find_sources
from shunter.storage.scoring.spec import Spec
from shunter.storage.signature import Signature, TensorSpec
from shunter.workers.assembly import JobRun
from shunter.workers.chunks import Chunks
from shunter.workers.isolation import Failure
from shunter.workers.messages import Run
from tests.jobs import claimed_job

LINES = 4


@pytest.fixture
def source(tmp_path: Path) -> Source:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"".join(b'{"x": %d}\n' % n for n in range(LINES)))
    (source,) = find_sources(str(path))
    return source


def a_chunk(source: Source, span: Span | None = None, **spec: Any) -> Chunk:
    folder = Path(source.url).parent
    asked: dict[str, Any] = {"input_format": "jsonl", "output_format": "parquet", "columns": ("x",), **spec}
    return Chunk(
        scoring=uuid4(),
        number=0,
        source=source,
        span=span or Span(file=0, rows=LINES, first_row=0, stop=source.size),
        spec=Spec(model="m", version=1, input=source.url, output=f"{folder}/out", chunk_rows=LINES, **asked),
        parts=f"{folder.as_uri()}/parts",
    )


def a_run(chunk: Chunk, *, rows: int | None = None) -> JobRun:
    rows = chunk.span.count if rows is None else rows
    return JobRun(Run(claimed_job(rows=rows, input=encode_chunk(chunk))), now=0.0)


def opened(chunk: Chunk, signature: Signature | None = None, **job: Any) -> list[Any]:
    return Chunks(signature or Signature()).open(a_run(chunk, **job))


def assembled(chunk: Chunk, model: Callable[[Any], Any]) -> Outcome:
    chunks, run = Chunks(Signature()), a_run(chunk)
    run.results = [model(value) for value in chunks.open(run)]
    assert run.carried is not None
    return chunks.assemble(run, run.carried, now=0.0)


def rows_of(chunk: Chunk, outcome: Outcome) -> list[dict[str, Any]]:
    part = told(outcome)
    assert part.rows_key is not None
    rows: list[dict[str, Any]] = pq.read_table(
        Path(chunk.spec.output).parent / "parts" / part.rows_key
    ).to_pylist()
    return rows


def errors_of(chunk: Chunk, outcome: Outcome) -> list[tuple[int, str]]:
    part = told(outcome)
    assert part.errors_key is not None
    lines = (Path(chunk.spec.output).parent / "parts" / part.errors_key).read_bytes().splitlines()
    return [(line["row"], line["code"]) for line in map(orjson.loads, lines)]


def told(outcome: Outcome) -> Part:
    assert outcome.output is not None
    assert outcome.output.inline is not None
    return Part(**orjson.loads(outcome.output.inline))


def again(source: Source, errors: bytes, *, failed: int = 2) -> Chunk:
    """A chunk that runs the failed rows of an earlier one again."""
    folder = Path(source.url).parent
    (folder / "errors.jsonl").write_bytes(errors)
    only = f"{folder.as_uri()}/errors.jsonl"
    return a_chunk(source, Span(file=0, rows=LINES, first_row=0, stop=source.size, only=only, failed=failed))


def test_only_the_failed_rows_are_read_again(source: Source) -> None:
    assert opened(again(source, b'{"row": 1}\n{"row": 3}\n')) == [1, 3]


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        (b'{"row": 1}\n', r"errors\.jsonl names 1 rows, and 2 failed"),
        (b'{"row": 1}\n{"row": 2}\n{"row": 3}\n', r"errors\.jsonl names 3 rows, and 2 failed"),
        (b'{"row": 1}\n{"row": 9}\n', r"errors\.jsonl, line 2: row 9 is none of the 4 rows from 0 on"),
        (b'{"row": 1}\n{"ro', r"errors\.jsonl, line 2 cannot be read"),
        (b'{"row": 1}\n{"key": 3}\n', r"errors\.jsonl, line 2 cannot be read"),
        (b'{"row": 1}\n{"row": [3]}\n', r"errors\.jsonl, line 2 names no row"),
    ],
)
def test_a_damaged_errors_file_refuses_its_chunk_alone(source: Source, errors: bytes, said: str) -> None:
    with pytest.raises(PayloadError, match=said):
        opened(again(source, errors))


def test_a_chunk_gives_exactly_the_rows_of_its_job(source: Source) -> None:
    with pytest.raises(PayloadError, match="4 rows were read, and the job says 3"):
        opened(a_chunk(source), rows=3)


def test_bytes_that_no_decoder_foresaw_refuse_their_chunk(tmp_path: Path) -> None:
    # Arrow takes a string's bytes as they are, and notices when they are decoded.
    text = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))
    pq.write_table(pa.table({"x": text}), tmp_path / "in.parquet")
    (source,) = find_sources(str(tmp_path / "in.parquet"))
    with pytest.raises(PayloadError, match=r"in\.parquet cannot be read: UnicodeDecodeError"):
        opened(a_chunk(source, Span(file=0, rows=1, first_row=0), input_format="parquet"))


def test_a_file_system_that_stumbles_is_asked_again() -> None:
    # A process' own memory opens like a file, and its first page answers with an input/output error.
    with Path("/proc/self/mem").open("rb") as memory:
        status = os.fstat(memory.fileno())
        source = Source(memory.name, status.st_size, str(status.st_mtime_ns))
        with pytest.raises(ObjectStoreUnavailable, match="cannot be read now"):
            opened(a_chunk(source, Span(file=0, rows=1, first_row=0, stop=10)))


def test_a_number_too_large_for_the_signature_fails_its_row_alone(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [[1, 300], [1, 2]]}), tmp_path / "in.parquet")
    (source,) = find_sources(str(tmp_path / "in.parquet"))
    chunk = a_chunk(source, Span(file=0, rows=2, first_row=0), input_format="parquet")
    refused, fine = opened(chunk, Signature(inputs={"x": TensorSpec("int8", (2,))}))
    assert isinstance(refused, Failure)
    assert (fine.dtype.name, fine.tolist()) == ("int8", [1, 2])


@pytest.mark.parametrize("empty", [{}, [{}], {"inner": {}}])
def test_outputs_that_hold_nothing_become_text(source: Source, empty: Any) -> None:
    chunk = a_chunk(source)
    outcome = assembled(chunk, lambda _: [empty])
    text = orjson.dumps([empty]).decode()
    assert rows_of(chunk, outcome) == [{"prediction": text}] * LINES
    assert outcome.rows_succeeded == LINES


def test_rows_whose_outputs_have_no_names_do_not_vanish(source: Source) -> None:
    chunk = a_chunk(source)
    assert rows_of(chunk, assembled(chunk, lambda _: {})) == [{"prediction": "{}"}] * LINES


def test_kept_columns_may_hold_nothing(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"x": 1, "note": {}}\n')
    (source,) = find_sources(str(path))
    chunk = a_chunk(source, Span(file=0, rows=1, first_row=0, stop=source.size), keep=("note",))
    assert rows_of(chunk, assembled(chunk, lambda x: x)) == [{"note": "{}", "prediction": 1}]


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "bad",
    ["\ud800", {"a": "\ud800"}, {"\ud800": 1}, nested(5_000)],
    ids=["text", "value", "name", "too deep"],
)
def test_an_output_that_cannot_be_written_fails_its_row_alone(source: Source, bad: Any) -> None:
    chunk = a_chunk(source)
    fine = {"a": "fine"} if isinstance(bad, dict) else "fine"
    outcome = assembled(chunk, lambda x: bad if x == 1 else fine)
    assert (outcome.state, outcome.rows_succeeded, outcome.rows_failed) == (JobState.SUCCEEDED, 3, 1)
    assert errors_of(chunk, outcome) == [(1, "bad_output")]
    assert [list(row.values()) for row in rows_of(chunk, outcome)] == [["fine"]] * 3


def test_outputs_that_cannot_be_written_fail_their_chunk(source: Source) -> None:
    # Arrow has this type, and Parquet has not.
    outcome = assembled(a_chunk(source), lambda x: pa.MonthDayNano([1, x, 0]))
    assert outcome.state is JobState.FAILED
    assert outcome.error is not None
    assert outcome.error["code"] == "bad_output"
    assert outcome.error["message"].startswith("the outputs cannot be written as parquet: ")
