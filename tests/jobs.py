"""Jobs for tests, with everything that a test does not care about filled in."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from shunter.storage.envelope import Envelope
from shunter.storage.ids import new_id
from shunter.storage.job import ClaimedJob, Priority


def claimed_job(**changes: Any) -> ClaimedJob:
    """A job that a hub has claimed."""
    fields: dict[str, Any] = {
        "id": new_id(),
        "epoch": 1,
        "model": "digits",
        "version": 1,
        "rows": 1,
        "priority": Priority.STANDARD,
        "attempts": 0,
        "deaths": 0,
        "deadline_in_s": None,
        "queued_s": 0.0,
        "input": b"",
        "input_key": None,
    }
    return ClaimedJob(**{**fields, **changes})


def envelope_of(*jobs: ClaimedJob) -> Envelope:
    """The envelope that carried these jobs."""
    first = jobs[0]
    return Envelope(
        id=uuid4(),
        ids=tuple(job.id for job in jobs),
        model=first.model,
        version=first.version,
        rows=sum(job.rows for job in jobs),
        priority=first.priority,
        enqueued_at=0.0,
    )
