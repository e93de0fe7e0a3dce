"""What a client may do with schedules, and what is answered about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from itertools import islice
from typing import Any, Protocol

from shunter.storage.errors import InvalidInput
from shunter.storage.schedules.definition import Definition, Schedule
from shunter.storage.schedules.history import WindowRecord

NEXT_WINDOWS = 3

MOST_AT_ONCE, MOST_DAYS = 64, 3660
FIRST_YEAR = 1970


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillStatus:
    """How a backfill stands: windows that wait, that are under way, and how many may be."""

    pending: int
    running: int
    at_once: int
    paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleStatus:
    """A schedule as users see it; `next_windows` are the instants at which the next ones begin.

    `watermark` is up to where the column of its `incremental_by` has been scored.
    """

    name: str
    definition: Mapping[str, Any]
    watermark: str | None
    paused: bool
    next_windows: Sequence[datetime]
    backfill: BackfillStatus
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowStatus:
    """A line of a schedule's history: one window, and what became of it.

    `state` is pending, skipped, failed, running, complete or cancelled; `seconds` how long its scoring took,
    `drift` what its report says, `-` if there is none.
    """

    window_start: datetime
    cause: str
    state: str
    total: int | None
    succeeded: int
    failed: int
    seconds: float | None
    drift: str
    scoring: str | None
    output: str | None
    error: Mapping[str, Any] | None
    warning: str | None


@dataclass(frozen=True, slots=True)
class DateRange:
    """Days in a schedule's time zone, both included; InvalidInput if there are none, or too many."""

    first: date
    last: date

    def __post_init__(self) -> None:
        if self.first.year < FIRST_YEAR or not 0 <= (self.last - self.first).days < MOST_DAYS:
            raise InvalidInput(
                f"a backfill from {self.first} to {self.last}: give days since {FIRST_YEAR} in their order, "
                f"{MOST_DAYS} at most",
                field="to",
            )

    @classmethod
    def of(cls, first: str, last: str) -> DateRange:
        """From two days as 2026-01-31."""
        return cls(_day("from", first), _day("to", last))


def _day(field: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"{field} is {text!r}: give a day, such as 2026-01-31", field=field) from error


class Schedules(Protocol):
    """Schedules as a client sees them, direct or through the API. Every call may raise Unavailable."""

    def add(self, name: str, definition: Definition) -> ScheduleStatus:
        """Store one, or find the same; InvalidInput, ScheduleExists."""

    def find(self, *, after: str = "", limit: int = 50) -> Sequence[ScheduleStatus]:
        """Those whose names come behind `after`, by name."""

    def get(self, name: str) -> ScheduleStatus:
        """One; UnknownSchedule."""

    def pause(self, name: str, *, paused: bool, backfill_only: bool = False) -> ScheduleStatus:
        """Hold it, or its backfill alone, or let it go on."""

    def run(self, name: str, *, window: datetime | None = None, again: bool = False) -> WindowStatus:
        """Fire a window now, the latest if none is named; one that was fired is left alone."""

    def backfill(self, name: str, days: DateRange, *, at_once: int = 1) -> int:
        """Queue the windows of these days that have no dataset; returns how many."""

    def history(
        self, name: str, *, before: datetime | None = None, limit: int = 50
    ) -> Sequence[WindowStatus]:
        """Its windows, the latest first."""

    def remove(self, name: str) -> None:
        """Forget it and its windows; scorings and datasets stay."""


def schedule_status(schedule: Schedule, *, backfill: tuple[int, int], now: datetime) -> ScheduleStatus:
    """A stored schedule as users see it; `backfill` are its pending and running windows."""
    pending, running = backfill
    return ScheduleStatus(
        name=schedule.name,
        definition=asdict(schedule.definition),
        watermark=None if schedule.watermark is None else schedule.watermark.value,
        paused=schedule.paused,
        next_windows=list(islice(schedule.definition.windows.after(now), NEXT_WINDOWS)),
        backfill=BackfillStatus(
            pending=pending,
            running=running,
            at_once=schedule.backfill_at_once,
            paused=schedule.backfill_paused,
        ),
        created_at=schedule.created_at.astimezone(UTC),
    )


def window_status(record: WindowRecord) -> WindowStatus:
    """A stored window as users see it."""
    return WindowStatus(
        window_start=record.start.astimezone(UTC),
        cause=record.cause.value,
        state=record.state,
        total=record.total_rows,
        succeeded=record.rows_succeeded,
        failed=record.rows_failed,
        seconds=None if record.seconds is None else round(record.seconds, 1),
        drift=record.drift,
        scoring=None if record.scoring is None else str(record.scoring),
        output=record.output,
        error=record.error,
        warning=record.warning,
    )
