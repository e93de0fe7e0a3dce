"""What a person sees of a status, a handle and of progress."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from shunter import Client, JobStatus
from shunter.producers.showing import counted
from shunter.producers.status import RowCounts
from shunter.producers.waiting import Waiting
from shunter.storage.ids import new_id
from shunter.storage.job import JobState
from shunter.storage.settings import Settings
from shunter.testing import InMemoryClient

STATUS = JobStatus(
    id="0197a3c2-6d1e-7c4f-9b1a-5a0f6de2c1aa",
    model="digits",
    version=2,
    state=JobState.QUEUED,
    priority="standard",
    rows=RowCounts(3, 0, 0),
    attempts=0,
    waiting=Waiting("no_worker", "no live worker serves <digits>"),
    created_at=datetime(2026, 3, 1, tzinfo=UTC),
    started_at=None,
    finished_at=None,
    error=None,
    metadata=None,
)


class Echo:
    def forward(self, rows: list[Any]) -> list[Any]:
        return rows


def test_a_status_says_in_one_line_what_matters() -> None:
    assert repr(STATUS) == (
        "<JobStatus 0197a3c2-6d1e-7c4f-9b1a-5a0f6de2c1aa · queued · digits version 2 · "
        "3, 0 succeeded, 0 failed · no live worker serves <digits>>"
    )
    failed = replace(STATUS, waiting=None, error={"code": "expired", "message": "too late"})
    assert repr(failed).endswith(" · expired: too late>")


def test_a_status_in_a_notebook_is_a_table_that_escapes_what_it_shows() -> None:
    html = STATUS._repr_html_()
    assert "<th>state</th><td>queued</td>" in html
    assert "no live worker serves &lt;digits&gt;" in html


def test_a_handle_in_a_notebook_shows_its_status() -> None:
    with InMemoryClient({"echo": Echo}) as client:
        (item,) = client.submit_many("echo", [1])
        assert "<td>succeeded</td>" in item._repr_html_()


def test_a_handle_that_cannot_ask_shows_why_and_does_not_raise() -> None:
    gone = Settings(
        database_url="postgresql://127.0.0.1:1/none",
        redis_url="redis://127.0.0.1:1",
        object_store="file:///tmp",
    )
    with Client(settings=gone) as client:
        html = client.job(new_id())._repr_html_()
    assert "<th>database_unavailable</th>" in html


def test_a_bar_counts_what_passes_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with InMemoryClient({"echo": Echo}) as client:
        assert list(client.map("echo", [1, 2, 3], progress=True)) == [1, 2, 3]
    assert "3/3" in capsys.readouterr().out


def test_closing_a_bar_closes_what_it_counts(capsys: pytest.CaptureFixture[str]) -> None:
    closed = []

    def source() -> Generator[object, None, None]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    shown = counted(source(), "rows", None)
    assert next(shown) == 1
    shown.close()
    assert closed == [True]
