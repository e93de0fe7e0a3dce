"""What `shunter doctor` knows of a fleet before it judges; None stands for what could not be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shunter.storage.model_registry import RegisteredModel, Scan
from shunter.storage.queue_depth import QueuedVersion
from shunter.storage.worker_registry import SilentEnd, Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresFacts:
    """A Postgres that answers; `cannot_write` is what it said to a write that leaves nothing behind.

    `revision` is the migration that the schema is at, None for a database without our tables. `clock_ahead_s`
    is how far this host's clock is before its.
    """

    version: str
    read_only: bool
    revision: str | None
    cannot_write: str | None
    clock_ahead_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisFacts:
    """A Redis that answers; `max_bytes` is 0 without a limit."""

    name: str
    version: str
    keeps_log: bool
    keeps_snapshots: bool
    policy: str
    used_bytes: int
    max_bytes: int
    cannot_write: str | None
    clock_ahead_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFacts:
    """What the tables tell of workers, models and jobs."""

    workers: Sequence[Worker]
    silent_ends: Sequence[SilentEnd]
    models: Sequence[RegisteredModel]
    queued: Sequence[QueuedVersion]
    quarantined: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something could not be asked: a service does not answer, or a setting is missing."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything at once; `envelopes` lie in Redis, `models` in the directory that is set here, if one is."""

    software: str
    host: str
    newest_revision: str
    postgres: PostgresFacts | Refusal
    redis: RedisFacts | Refusal
    envelopes: int | None
    object_store: str | Refusal
    fleet: FleetFacts | Refusal
    models: Scan | Refusal | None
