"""The object store goes and comes back: jobs wait for it, whatever their attempts."""

from __future__ import annotations

from pathlib import Path

import pytest

from shunter.storage.job import JobState
from tests.faults.arena import MODEL, arena, pass_time, size
from tests.faults.ledger import LARGE, MODEL_SOURCE
from tests.waiting import wait_until

LARGE_ROW = 498
"""Its output is an object."""


@pytest.mark.timeout(300)
def test_jobs_outlast_an_object_store_that_is_down(tmp_path: Path) -> None:
    with arena(tmp_path, max_attempts=1, source=MODEL_SOURCE) as place:
        place.start_hub()
        # Every object is first written into this directory.
        incoming = tmp_path / "objects" / ".incoming"
        incoming.parent.mkdir(exist_ok=True)
        incoming.write_text("no directory")
        job = place.client.submit(MODEL, [LARGE_ROW])
        wait_until(
            lambda: place.ask("SELECT id FROM jobs WHERE state = 'queued' AND not_before IS NOT NULL"), 30
        )
        pass_time(size(1, 60))
        incoming.unlink()
        status = job.wait(60)
        assert (status.state, status.attempts) == (JobState.SUCCEEDED, 0)
        assert job.outputs() == [[2 * LARGE_ROW, LARGE]]
