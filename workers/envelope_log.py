"""What becomes of each envelope in a hub's hands, told as Celery task events for Flower; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from shunter.storage.envelope import Envelope, queue_name
from shunter.storage.job import Move
from shunter.storage.outcome import BatchNote, Outcome
from shunter.workers.intake import Mail


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """One Celery event: its type, and the fields that Flower reads."""

    type: str
    fields: dict[str, Any]


class InHand(NamedTuple):
    """An envelope that the hub has; `started_at` once one of its jobs is in the model."""

    envelope: Envelope
    started_at: float | None


@dataclass(slots=True)
class _Entry:
    envelope: Envelope
    open_jobs: int
    started_at: float | None = None
    succeeded: int = 0
    failed: int = 0
    moves: list[Move] = field(default_factory=list)
    batches: set[BatchNote] = field(default_factory=set)
    error: str = ""


class EnvelopeLog:
    """Knows which jobs of which envelopes are still open; `now` is wall-clock seconds.

    Only the hub's own thread tells it things; any thread may ask what is in hand. Events are made while
    somebody listens to them, and not otherwise: they would cost more than the claim itself.
    """

    def __init__(self, listens: Callable[[], bool]) -> None:
        self._listens = listens
        self._arriving: dict[str, Mail] = {}
        self._entries: dict[UUID, _Entry] = {}
        # By the numbers of their ids, as a UUID is hashed in Python.
        self._of_job: dict[int, _Entry] = {}
        self._taken: Counter[str] = Counter()

    def in_hand(self) -> list[InHand]:
        """Every envelope that the hub has, those being claimed included."""
        arriving = {e.id: e for mail in list(self._arriving.values()) for e in mail.all_envelopes()}
        entries = [InHand(entry.envelope, entry.started_at) for entry in list(self._entries.values())]
        known = {entry.envelope.id for entry in entries}
        return entries + [InHand(e, None) for id, e in arriving.items() if id not in known]

    def count_started(self) -> int:
        """How many envelopes in hand have a job in the model; every heartbeat asks, so it makes nothing."""
        return sum(entry.started_at is not None for entry in list(self._entries.values()))

    def taken(self) -> Counter[str]:
        """How many envelopes of each queue have come with something to run."""
        return Counter(self._taken)

    def received(self, mail: Mail, now: float) -> list[TaskEvent]:
        """Envelopes have arrived, and are about to be claimed."""
        self._arriving[mail.bunch.key] = mail
        return [_received(envelope, now) for envelope in mail.all_envelopes()] if self._listens() else []

    def gone_back(self, mail: Mail, now: float) -> list[TaskEvent]:
        """Nothing of them could be claimed: they are on their lists again."""
        self.arrived(mail.bunch.key)
        reason = "a service did not answer"
        return [
            _event("task-retried", envelope.id, now, exception=reason, traceback="")
            for envelope in (mail.all_envelopes() if self._listens() else ())
        ]

    def arrived(self, bunch: str) -> None:
        """The claim of a bunch is over; what came of its envelopes is told next."""
        self._arriving.pop(bunch, None)

    def refused(self, id: UUID, reason: str, now: float) -> list[TaskEvent]:
        """A plain Celery producer's message was quarantined; another of its id may be in hand."""
        if id in self._entries or not self._listens():
            return []
        return [_event("task-failed", id, now, exception=f"quarantined: {reason}", traceback="")]

    def claimed(self, envelope: Envelope, jobs: Collection[UUID], now: float) -> list[TaskEvent]:
        """These of its jobs are ours; without any, the envelope has come to nothing."""
        if not jobs and (envelope.id in self._entries or not self._listens()):
            # A duplicate of what is in hand has yet to end.
            return []
        if not jobs:
            summary = "0 jobs: they were done, cancelled or claimed already"
            return [
                _event("task-started", envelope.id, now),
                _event("task-succeeded", envelope.id, now, result=summary, runtime=0.0),
            ]
        entry = self._entries[envelope.id] = _Entry(envelope, len(jobs))
        for job in jobs:
            self._of_job[job.int] = entry
        self._taken[queue_name(envelope.model)] += 1
        return []

    def begun(self, jobs: Iterable[UUID], now: float) -> list[TaskEvent]:
        """These jobs are in the model's hands; an envelope starts with the first of its jobs."""
        started = []
        for job in jobs:
            entry = self._of_job.get(job.int)
            if entry is not None and entry.started_at is None:
                entry.started_at = now
                started.append(entry.envelope.id)
        return [_event("task-started", id, now) for id in started] if self._listens() else []

    def settled(self, outcome: Outcome, now: float) -> list[TaskEvent]:
        """One job is done with; an envelope ends with the last of its jobs."""
        entry = self._of_job.pop(outcome.id.int, None)
        if entry is None:
            return []
        entry.open_jobs -= 1
        entry.succeeded += outcome.rows_succeeded
        entry.failed += outcome.rows_failed
        entry.moves.append(outcome.move)
        entry.batches.update(outcome.batches)
        if outcome.error is not None:
            entry.error = str(outcome.error.get("message", ""))
        if entry.open_jobs:
            return []
        if self._entries.get(entry.envelope.id) is entry:
            del self._entries[entry.envelope.id]
        return _ending(entry, now) if self._listens() else []


def _received(envelope: Envelope, now: float) -> TaskEvent:
    return _event(
        "task-received",
        envelope.id,
        now,
        name=queue_name(envelope.model),
        args=f"({envelope.title!r},)",
        kwargs=envelope.span,
        root_id=str(envelope.id),
        retries=0,
    )


def _ending(entry: _Entry, now: float) -> list[TaskEvent]:
    id = entry.envelope.id
    events = [] if entry.started_at is not None else [_event("task-started", id, now)]
    runtime = round(now - (entry.started_at or now), 6)
    moves = set(entry.moves)
    if moves == {Move.FAIL}:
        ending = _event("task-failed", id, now, exception=_summary(entry), traceback=entry.error)
    elif moves <= {Move.RETRY, Move.RETURN, Move.RESCUE}:
        ending = _event("task-retried", id, now, exception=_summary(entry), traceback=entry.error)
    else:
        ending = _event("task-succeeded", id, now, result=_summary(entry), runtime=runtime)
    return [*events, ending]


def _summary(entry: _Entry) -> str:
    parts = [f"{entry.succeeded} succeeded", f"{entry.failed} failed"]
    jobs = Counter(entry.moves)
    for move, text in (
        (Move.RETRY, "to be tried again"),
        (Move.RETURN, "returned"),
        (Move.EXPIRE, "expired"),
    ):
        if jobs[move]:
            parts.append(f"{jobs[move]} jobs {text}")
    if jobs[Move.CANCEL]:
        parts.append(f"{jobs[Move.CANCEL]} jobs cancelled or lost")
    return ", ".join(parts) + _batches(entry.batches) + (f": {entry.error}" if entry.error else "")


def _batches(batches: Collection[BatchNote]) -> str:
    """How many batches its rows were in, of how many rows, and why these were closed."""
    if not batches:
        return ""
    sizes = sorted({batch.rows for batch in batches})
    rows = f"{sizes[0]}-{sizes[-1]}" if len(sizes) > 1 else f"{sizes[0]}"
    reasons = Counter(batch.reason for batch in batches)
    why = ", ".join(f"{reasons[reason]} {reason}" for reason in sorted(reasons))
    return f" in {len(batches)} {'batch' if len(batches) == 1 else 'batches'} of {rows} rows ({why})"


def _event(type: str, id: UUID, now: float, **fields: Any) -> TaskEvent:
    return TaskEvent(type, {"uuid": str(id), "timestamp": now, **fields})


def abandoned(envelope: UUID, reason: str, now: float) -> TaskEvent:
    """The event for an envelope whose worker died: nobody else will tell how it ended."""
    return _event("task-retried", envelope, now, exception=reason, traceback="")
