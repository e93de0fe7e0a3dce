"""A window of a schedule: the one row for which at most one scoring runs, whoever fires it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from shunter.storage.ids import uuid_of
from shunter.storage.scoring.spec import ScoringState

_RANDOM_BITS, _RAND_B_BITS = 74, 62


class WindowState(StrEnum):
    """How far a window has come; once `started`, it is as its scoring is."""

    PENDING = "pending"
    STARTED = "started"
    SKIPPED = "skipped"
    FAILED = "failed"


class Cause(StrEnum):
    """Why there is a window."""

    CRON = "cron"
    RUN = "run"
    BACKFILL = "backfill"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stored window; `scoring_state` is its scoring's, None before there is one.

    `tried_at` is when its input was first looked for, `not_before` when it is looked for again.
    """

    schedule: UUID
    start: datetime
    cause: Cause
    state: WindowState = WindowState.PENDING
    attempt: int = 0
    scoring: UUID | None = None
    scoring_state: ScoringState | None = None
    tried_at: datetime | None = None
    not_before: datetime | None = None
    error: dict[str, Any] | None = None
    warning: str | None = None

    @property
    def running(self) -> bool:
        """Whether its scoring is under way."""
        return self.scoring_state is ScoringState.RUNNING

    @property
    def failed(self) -> bool:
        """Whether it has ended without a dataset, and may be tried again."""
        lost = (ScoringState.FAILED, ScoringState.CANCELLED)
        return self.state in (WindowState.SKIPPED, WindowState.FAILED) or self.scoring_state in lost


def scoring_id(schedule: UUID, start: datetime, attempt: int) -> UUID:
    """The only id that the scoring of a window can have: UUIDv7 of its start, the rest a digest.

    So a second insert of it fails whatever happened, and scorings stand in the order of their windows.
    """
    digest = hashlib.sha256(f"{schedule} {start.timestamp()} {attempt}".encode()).digest()
    rest = int.from_bytes(digest) >> 256 - _RANDOM_BITS
    high, low = rest >> _RAND_B_BITS, rest & (1 << _RAND_B_BITS) - 1
    return uuid_of(int(start.timestamp() * 1000) << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)
