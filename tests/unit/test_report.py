"""The report: its figures from chunks and sketches, and a page that is safe and needs nothing else."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from shunter.storage.object_store import open_object_store
from shunter.storage.scoring.reports import Reference
from shunter.storage.scoring.sketches import encode_sketches, sketch_table
from shunter.workers.report.facts import BuiltReport, ChunkFacts, ReportFacts
from shunter.workers.report.process import build
from shunter.workers.scoring_reporter import BuildKilled, ReportFailed, build_apart

RUN = {
    "batches": 4.0,
    "rows": 400,
    "seconds": {"preprocess": 1.0, "forward": 2.0, "postprocess": 0.5},
    "sizes": {"128": 4.0},
    "fill": {"0.9": 4.0},
    "padding": {},
    "reasons": {"full": 3.0, "idle": 1.0},
}
EVIL = "<script>alert(1)</script>"


def columns_of(seed: int, *, moved: float = 0.0, name: str = "x") -> bytes:
    generator = np.random.default_rng(seed)
    inputs = {
        name: pa.array(generator.normal(moved, 1.0, 400)),
        "word": pa.array(generator.choice(["a", EVIL], 400)),
        "image": pa.array(list(generator.random((400, 16)))),
        "constant": pa.array([7] * 400),
        "nothing": pa.nulls(400),
    }
    outputs = {"prediction": pa.array(generator.integers(0, 10, 400))}
    return encode_sketches(
        inputs=sketch_table(inputs, every=1, seed=0), outputs=sketch_table(outputs, every=1, seed=0)
    )


def facts_of(
    directory: Path, *, references: tuple[Reference, ...] = (), name: str = "x", **changed: Any
) -> ReportFacts:
    store = open_object_store(directory.as_uri())
    for number in range(2):
        store.put(f"columns-{number}", columns_of(number, name=name))
    failures = {"bad": (3, EVIL)}
    chunks = [
        ChunkFacts(
            rows_succeeded=397, rows_failed=3, ended_s=end, run=RUN, failures=failures, columns_key=key
        )
        for end, key in ((1.0, "columns-0"), (4.0, "columns-1"))
    ]
    scoring = {
        "id": "0197a3c2-6d1e-7c4f-9b1a-5a0f6de2c1aa",
        "model": "digits",
        "version": 3,
        "input": f"/in/{EVIL}",
        "output": "/out",
        "created_at": "2026-01-01T02:00:00+00:00",
        "finished_at": "2026-01-01T02:00:04+00:00",
    }
    given: dict[str, Any] = {"chunks": chunks, "price": 3.6, **changed}
    return ReportFacts(scoring=scoring, seconds=4.0, parts=directory.as_uri(), references=references, **given)


def reference(name: str, columns: bytes) -> Reference:
    facts: dict[str, Any] = {
        "profile": {"source": "/train", "rows": 400},
        "previous": {"scoring": "x", "version": 2, "finished_at": "2025-12-31T02:00:00+00:00"},
    }
    return Reference(name=name, facts=facts[name], columns=columns)


def test_the_figures_are_the_sums_of_the_chunks(tmp_path: Path) -> None:
    document = build(facts_of(tmp_path)).document
    assert document["rows"] == {"total": 800, "succeeded": 794, "failed": 6}
    assert document["failures"] == [{"code": "bad", "rows": 6, "example": EVIL}]
    assert document["batches"]["batches"] == 8
    assert document["device"] == {
        "busy_s": 4.0,
        "busy_s_per_million_rows": 5000.0,
        "price_per_hour": 3.6,
        "cost_per_million_rows": 5.0,
    }
    assert document["throughput"] == {"rows_per_s": 200.0, "part_s": 4.0, "rows": [800]}
    assert {column["name"]: column["rows"] for column in document["columns"]}["x"] == 800


def test_without_a_reference_nothing_is_said_of_drift(tmp_path: Path) -> None:
    built = build(facts_of(tmp_path))
    assert (built.drifted, built.document["drift"]["columns"]) == (None, [])
    assert "nothing to compare with" in built.page


def test_a_run_like_those_before_has_not_drifted(tmp_path: Path) -> None:
    others = (reference("profile", columns_of(7)), reference("previous", columns_of(8)))
    built = build(facts_of(tmp_path, references=others))
    assert built.drifted is False
    assert set(built.document["columns"][0]["distances"]) == {"profile", "previous"}


def test_a_column_that_has_moved_is_named_first(tmp_path: Path) -> None:
    built = build(facts_of(tmp_path, references=(reference("previous", columns_of(8, moved=2.0)),)))
    assert built.drifted
    assert built.document["drift"]["columns"] == ["input.x"]
    assert (built.document["columns"][0]["name"], built.document["columns"][0]["drifted"]) == ("x", True)


def test_the_next_report_can_be_compared_with_this_one(tmp_path: Path) -> None:
    built = build(facts_of(tmp_path))
    again = build(facts_of(tmp_path, references=(reference("previous", built.columns),)))
    assert again.drifted is False


def test_a_chunk_without_sketches_costs_only_its_columns(tmp_path: Path) -> None:
    facts = facts_of(tmp_path)
    store = open_object_store(tmp_path.as_uri())
    store.put("columns-0", b"damaged")
    (x,) = (column for column in build(facts).document["columns"] if column["name"] == "x")
    assert x["rows"] == 400


def test_nothing_that_anybody_wrote_becomes_markup(tmp_path: Path) -> None:
    page = build(facts_of(tmp_path, name=EVIL)).page
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 3


def test_the_page_asks_nobody_for_anything(tmp_path: Path) -> None:
    class Outside(HTMLParser):
        found: list[str] = []  # noqa: RUF012 - of this one parser

        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            places = {
                name: value or "" for name, value in attributes if name in ("src", "href", "xlink:href")
            }
            self.found += [value for value in places.values() if not value.startswith("#")]

    page = build(facts_of(tmp_path)).page
    parser = Outside()
    parser.feed(page)
    assert parser.found == []
    assert not re.findall(r"url\((?!#)", page)
    assert "@import" not in page
    assert "prefers-color-scheme: dark" in page


def test_plots_take_the_colours_of_the_page(tmp_path: Path) -> None:
    page = build(facts_of(tmp_path)).page
    assert "var(--now)" in page
    assert "currentColor" in page
    assert not re.findall(r"#01020\d", page)
    assert "DejaVu" not in page
    identifiers = re.findall(r'<[^>]* id="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))


def test_a_scoring_of_which_chunks_told_nothing_still_has_a_report(tmp_path: Path) -> None:
    silent = ChunkFacts(
        rows_succeeded=0,
        rows_failed=5,
        ended_s=None,
        run=None,
        failures={"job_removed": (5, "")},
        columns_key=None,
    )
    document = build(facts_of(tmp_path, chunks=[silent], price=None)).document
    assert (document["rows"]["failed"], document["columns"]) == (5, [])
    assert document["device"]["cost_per_million_rows"] is None


def test_the_process_builds_the_same_report(tmp_path: Path) -> None:
    facts = facts_of(tmp_path)
    assert build_apart(facts).document["rows"] == build(facts).document["rows"]


def test_what_the_process_cannot_build_is_said() -> None:
    broken = ReportFacts(scoring={}, seconds=0, parts="file:///nowhere", chunks=[], references=[], price=None)
    with pytest.raises(ReportFailed, match=r"its process ended with 1: .*UndefinedError"):
        build_apart(broken)


def test_a_process_that_is_killed_may_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\ncat > /dev/null\nkill -9 $$\n")
    dying.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(dying))
    with pytest.raises(BuildKilled, match="by signal 9"):
        build_apart(facts_of(tmp_path))


def test_facts_and_reports_cross_the_pipe(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, references=(reference("profile", b"bytes"),))
    again = ReportFacts.decode(facts.encode())
    assert again.references == list(facts.references)
    assert again.chunks[0].run == RUN
    built = build(facts_of(tmp_path))
    assert BuiltReport.decode(built.encode()) == built
