"""What becomes of each envelope in a hub's hands, told as Celery task events for Flower; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from shunter.storage.envelope import Envelope, queue_name
from shunter.storage.job import Move
from shunter.storage.outcome import Outcome


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """One Celery event: its type, and the fields that Flower reads."""

    type: str
    fields: dict[str, Any]


@dataclass(slots=True)
class _Entry:
    envelope: Envelope
    waiting: set[UUID]
    started_at: float | None = None
    rows: Counter[str] = field(default_factory=Counter)
    jobs: Counter[str] = field(default_factory=Counter)
    error: str = ""


class EnvelopeLog:
    """Knows which jobs of which envelopes are still open; `now` is wall-clock seconds."""

    def __init__(self) -> None:
        self._entries: dict[UUID, _Entry] = {}
        self._of_job: dict[UUID, UUID] = {}

    def received(self, envelope: Envelope, now: float) -> TaskEvent:
        """An envelope has arrived."""
        fields = {
            "name": queue_name(envelope.model),
            "args": f"({envelope.title!r},)",
            "kwargs": envelope.span,
            "root_id": str(envelope.id),
            "retries": 0,
        }
        return _event("task-received", envelope.id, now, **fields)

    def refused(self, id: UUID, reason: str, now: float) -> list[TaskEvent]:
        """A plain Celery producer's message was quarantined; another of its id may be in hand."""
        if id in self._entries:
            return []
        return [_event("task-failed", id, now, exception=f"quarantined: {reason}", traceback="")]

    def gone_back(self, envelope: Envelope, now: float) -> TaskEvent:
        """Nothing of an envelope could be claimed: it is on its list again."""
        return _event("task-retried", envelope.id, now, exception="a service did not answer", traceback="")

    def claimed(self, envelope: Envelope, jobs: Iterable[UUID], now: float) -> list[TaskEvent]:
        """These of its jobs are ours; without any, the envelope has come to nothing."""
        ids = set(jobs)
        if not ids and envelope.id in self._entries:
            # A duplicate of what is in hand, which has yet to end.
            return []
        if not ids:
            summary = "0 jobs: they were done, cancelled or claimed already"
            return [
                _event("task-started", envelope.id, now),
                _event("task-succeeded", envelope.id, now, result=summary, runtime=0.0),
            ]
        self._entries[envelope.id] = _Entry(envelope, ids)
        self._of_job.update(dict.fromkeys(ids, envelope.id))
        return []

    def begun(self, jobs: Iterable[UUID], now: float) -> list[TaskEvent]:
        """These jobs are in the model's hands; an envelope starts with the first of its jobs."""
        events = []
        for id in {self._of_job[job] for job in jobs if job in self._of_job}:
            entry = self._entries[id]
            if entry.started_at is None:
                entry.started_at = now
                events.append(_event("task-started", id, now))
        return events

    def settled(self, outcome: Outcome, now: float) -> list[TaskEvent]:
        """One job is done with; an envelope ends with the last of its jobs."""
        id = self._of_job.pop(outcome.id, None)
        if id is None:
            return []
        entry = self._entries[id]
        entry.waiting.discard(outcome.id)
        entry.rows.update(succeeded=outcome.rows_succeeded, failed=outcome.rows_failed)
        entry.jobs[outcome.move] += 1
        if outcome.error is not None:
            entry.error = str(outcome.error.get("message", ""))
        if entry.waiting:
            return []
        del self._entries[id]
        return _ending(entry, now)


def _ending(entry: _Entry, now: float) -> list[TaskEvent]:
    id = entry.envelope.id
    events = [] if entry.started_at is not None else [_event("task-started", id, now)]
    runtime = round(now - (entry.started_at or now), 6)
    moves = set(entry.jobs)
    if moves == {Move.FAIL}:
        ending = _event("task-failed", id, now, exception=_summary(entry), traceback=entry.error)
    elif moves <= {Move.RETRY, Move.RETURN, Move.RESCUE}:
        ending = _event("task-retried", id, now, exception=_summary(entry), traceback=entry.error)
    else:
        ending = _event("task-succeeded", id, now, result=_summary(entry), runtime=runtime)
    return [*events, ending]


def _summary(entry: _Entry) -> str:
    parts = [f"{entry.rows['succeeded']} succeeded", f"{entry.rows['failed']} failed"]
    for move, text in (
        (Move.RETRY, "to be tried again"),
        (Move.RETURN, "returned"),
        (Move.EXPIRE, "expired"),
    ):
        if entry.jobs[move]:
            parts.append(f"{entry.jobs[move]} jobs {text}")
    if entry.jobs[Move.CANCEL]:
        parts.append(f"{entry.jobs[Move.CANCEL]} jobs cancelled or lost")
    return ", ".join(parts) + (f": {entry.error}" if entry.error else "")


def _event(type: str, id: UUID, now: float, **fields: Any) -> TaskEvent:
    return TaskEvent(type, {"uuid": str(id), "timestamp": now, **fields})


def abandoned(envelope: UUID, reason: str, now: float) -> TaskEvent:
    """The event for an envelope whose worker died: nobody else will tell how it ended."""
    return _event("task-retried", envelope, now, exception=reason, traceback="")
