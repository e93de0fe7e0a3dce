"""What a job is, the states it passes through, and the one table of legal moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from functools import cache, partial
from typing import Any, NamedTuple
from uuid import UUID

DEFAULT_TENANT = "default"


class JobState(StrEnum):
    """Where a job stands; `running` means claimed by a worker."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        """A job never leaves a terminal state."""
        return self in TERMINAL_STATES


class Move(StrEnum):
    """Why a job changes its state; also the labels in docs/state-machine.md."""

    CLAIM = "claim"
    SUCCEED = "succeed"
    FAIL = "fail"
    RETRY = "retry"
    RESCUE = "rescue"
    RETURN = "return"
    CANCEL = "cancel"
    EXPIRE = "expire"


@dataclass(frozen=True, slots=True)
class LegalMove:
    """One arrow of the state machine."""

    source: JobState
    move: Move
    target: JobState


MOVES: frozenset[LegalMove] = frozenset(
    LegalMove(JobState(source), Move(move), JobState(target))
    for source, move, target in (
        ("queued", "claim", "running"),
        ("queued", "cancel", "cancelled"),
        ("queued", "expire", "expired"),
        # A version that nobody serves any more, and a job that killed too many workers.
        ("queued", "fail", "failed"),
        ("running", "succeed", "succeeded"),
        ("running", "fail", "failed"),
        ("running", "retry", "queued"),
        ("running", "rescue", "queued"),
        ("running", "return", "queued"),
        ("running", "cancel", "cancelled"),
        ("running", "expire", "expired"),
    )
)
"""The legal moves, written only here; the repository names the source state in every UPDATE."""

TERMINAL_STATES: frozenset[JobState] = frozenset(JobState) - {move.source for move in MOVES}


class Priority(IntEnum):
    """Priority classes; a lower number is served sooner."""

    INTERACTIVE = 0
    STANDARD = 1
    BULK = 2

    @property
    def label(self) -> str:
        """The name that users see."""
        return self.name.lower()

    @classmethod
    @cache
    def from_label(cls, label: str) -> Priority:
        """Read a user's word; KeyError for any other."""
        # Kept: an Enum finds its members in Python code.
        return cls[label.upper()] if label == label.lower() else cls[label]


class NewJob(NamedTuple):
    """A job about to be stored: its input block is inline or already in the object store.

    A tuple, which is made in a third of a dataclass' time: one for every submit.
    """

    id: UUID
    model: str
    version: int
    rows: int
    input: bytes | None
    tenant: str = DEFAULT_TENANT
    priority: Priority = Priority.STANDARD
    deadline_s: float | None = None
    redriven_from: UUID | None = None
    metadata: dict[str, Any] | None = None
    input_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A stored job without its payloads, as the database last knew it."""

    id: UUID
    tenant: str
    model: str
    version: int
    state: JobState
    priority: Priority
    rows: int
    rows_succeeded: int
    rows_failed: int
    attempts: int
    deaths: int
    epoch: int
    worker: UUID | None
    error: dict[str, Any] | None
    metadata: dict[str, Any] | None
    created_at: datetime
    enqueued_at: datetime
    not_before: datetime | None
    deadline_at: datetime | None
    started_at: datetime | None
    forward_at: datetime | None
    finished_at: datetime | None
    redriven_from: UUID | None


class ClaimedJob(NamedTuple):
    """A job that a hub has just claimed, with what its engine needs to run it.

    A tuple, since every job crosses the pipe: it is made and pickled in a third of a dataclass' time.
    """

    id: UUID
    epoch: int
    model: str
    version: int
    rows: int
    priority: Priority
    attempts: int
    deaths: int
    deadline_in_s: float | None
    queued_s: float
    input: bytes | None
    input_key: str | None


claimed_job: Callable[[tuple[Any, ...]], ClaimedJob] = partial(tuple.__new__, ClaimedJob)
"""The job of all its fields in their order: `_make` is Python code."""


class Claim(NamedTuple):
    """A hub's hold on one job: valid while the row still says running, this worker, this epoch."""

    id: UUID
    epoch: int
