"""The usual dirt of text files, and what each kind got: the table of docs/scoring.md is what happens here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shunter.storage.scoring.inspection import SAMPLE_RECORDS
from tests.scoring_fleet import ScoringFleet, scoring_fleet

DOCUMENT = Path(__file__).parents[2] / "docs" / "scoring.md"
HEAD = ("| row | in JSONL | in CSV |", "| --- | --- | --- |")
GOOD = {"jsonl": (b'{"k": "a", "x": 0.5}', b'{"k": "z", "x": 2.5}'), "csv": (b"a,0.5", b"z,2.5")}

DIRT: dict[str, tuple[bytes, bytes]] = {
    "`\\r\\n` at its end": (b'{"k": "d", "x": 1.5}\r', b"d,1.5\r"),
    "an empty line": (b"", b""),
    "a comma, a quote and a line end in text": (b'{"k": "d,\\"\\n", "x": 1.5}', b'"d,""\n",1.5'),
    "a quote that nobody closed": (b'{"k": "d, "x": 1.5}', b'"d,1.5'),
    "bytes that are not UTF-8": (b'{"k": "\xff", "x": 1.5}', b"\xff,1.5"),
    "NaN": (b'{"k": "d", "x": NaN}', b"d,NaN"),
    "null, or an empty cell": (b'{"k": "d", "x": null}', b"d,"),
    "text where numbers are": (b'{"k": "d", "x": "many"}', b"d,many"),
    "no such column, or too few cells": (b'{"k": "d"}', b"d"),
    "one more column, or cell": (b'{"k": "d", "x": 1.5, "y": 1}', b"d,1.5,1"),
    "half a row": (b'{"k": "d", "x"', b"d"),
    "the key of another row": (b'{"k": "a", "x": 1.5}', b"a,1.5"),
    "100 MB": (b'{"k": "%s", "x": 1.5}' % (b"d" * 10**8), b"%s,1.5" % (b"d" * 10**8)),
}

ODD = -1.0


@pytest.fixture
def fleet(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[ScoringFleet]:
    with scoring_fleet(database_url, redis_url, tmp_path) as fleet:
        yield fleet


def model(x: Any) -> float:
    """Numbers as they are, and one number for all else."""
    return x if isinstance(x, float) and math.isfinite(x) else ODD


def got(fleet: ScoringFleet, format: str, dirt: bytes, name: str, *, front: bytes = b"") -> str:
    """What became of a row between good ones, which tell the types of a CSV, in the document's words."""
    first, last = GOOD[format]
    header = b"k,x\n" if format == "csv" else b""
    text = front + header + b"\n".join((*[first] * SAMPLE_RECORDS, dirt, last, b""))
    (fleet.directory / f"{name}.{format}").write_bytes(text)
    output = f"{name}-{format}"
    asked: dict[str, Any] = {"columns": ["x"], "key": "k", "format": "jsonl"}
    asked["chunk_rows"] = 2 * SAMPLE_RECORDS
    fleet.score(f"{name}.{format}", output, model=model, **asked)
    parts = sorted((fleet.directory / output).glob("part-*.jsonl"))
    lines = [line for part in parts for line in part.read_text().splitlines()]
    assert lines[:SAMPLE_RECORDS] == ['{"k":"a","prediction":0.5}'] * SAMPLE_RECORDS
    assert lines[-1] == '{"k":"z","prediction":2.5}'
    errors = [line["code"] for line in fleet.errors(output)]
    if errors:
        return ", ".join(f"`{code}`" for code in errors)
    (row,) = lines[SAMPLE_RECORDS:-1] or ("",)
    if not row:
        return "skipped"
    return "read" if row.endswith(":1.5}") else "given to the model as it is"


def test_the_document_tells_what_each_kind_of_dirt_got(fleet: ScoringFleet) -> None:
    told = [
        f"| {what} | {got(fleet, 'jsonl', jsonl, f'd{n}')} | {got(fleet, 'csv', csv, f'd{n}')} |"
        for n, (what, (jsonl, csv)) in enumerate(DIRT.items())
    ]
    bom, good = b"\xef\xbb\xbf", {"jsonl": b'{"k": "d", "x": 1.5}', "csv": b"d,1.5"}
    marked = [got(fleet, format, row, "bom", front=bom) for format, row in good.items()]
    table = "\n".join((*HEAD, f"| a byte order mark at the file's front | {' | '.join(marked)} |", *told))
    assert table in DOCUMENT.read_text(), f"docs/scoring.md lacks this table:\n{table}"
