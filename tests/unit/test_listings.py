"""What `shunter workers` shows of a worker."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from shunter.commands.listings import Document, worker_document, worker_row
from shunter.commands.output import print_json, print_table
from shunter.storage.worker_registry import AtWork, Serving, Worker


def worker(*, silent_s: float = 0.5, **stats: object) -> Document:
    found = Worker(
        incarnation=uuid4(),
        name="gpu0@host",
        host="host",
        pid=1,
        device="cpu",
        state="ready",
        started_at=datetime.now(UTC),
        silent_s=silent_s,
        serves=(
            Serving("digits", 2, "ready", loads=3, at_work=AtWork("forward", rows=32, jobs=4, for_s=1.25)),
            Serving("words", 1, loads=1),
        ),
        stats=stats,
        pool="text",
        memory_bytes=3 * 2**29,
        memory_budget_bytes=4 * 2**30,
    )
    return worker_document(found)


def test_the_batches_of_all_its_models_are_summed() -> None:
    row = worker_row(worker(a={"batches": 3, "rows": 300}, b={"batches": 1, "rows": 2}))
    serves = "digits:2 ready (3 loads), words:1 idle"
    about = ("gpu0@host", "text", "ready", "0.5 s ago", "cpu", "1.5 GiB of 4 GiB", serves)
    assert row == (*about, "digits: forward, 32 rows for 1.2 s", 4, 302, "75.5")


def test_a_worker_without_batches_has_no_mean() -> None:
    assert worker_row(worker())[-1] is None


def test_a_worker_that_does_not_beat_is_called_silent() -> None:
    assert worker_row(worker(silent_s=42))[2] == "silent for 42 s"


def test_a_table_in_a_file_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["NAME", "TEXT"], [("a", "x" * 150), (None, "[bold]")])
    assert capsys.readouterr().out.split() == ["NAME", "TEXT", "a", "x" * 150, "[bold]"]


def test_json_knows_bytes_and_has_no_word_for_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": b"\0", "b": float("nan")}, indent=False)
    assert capsys.readouterr().out == '{"a":{"$bytes":"AA=="},"b":null}\n'
