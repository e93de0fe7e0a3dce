"""The shapes of the HTTP API's bodies about schedules."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from shunter.producers.schedules.request import MOST_AT_ONCE
from shunter.producers.schemas import ErrorDocument, ScoringBody, ScoringRowsDocument
from shunter.storage.schedules.definition import LONGEST_WAIT_S, NAME

MissedName = Literal["catch-up", "skip", "latest"]
OverlapName = Literal["queue", "skip"]

DATE = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"


class ScheduleBody(BaseModel):
    """A dataset to be scored in each window of a cron line; its places are templates with dates."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(pattern=f"^{NAME.pattern}$")
    cron: str = Field(min_length=1, description="Five fields: minute hour day month weekday.")
    request: ScoringBody = Field(description="What is scored: {date} in its places is the window's.")
    timezone: str = Field("UTC", min_length=1, description="An IANA name, such as Europe/Berlin.")
    missed: MissedName = Field("catch-up", description="What becomes of windows that nobody could fire.")
    overlap: OverlapName = Field("queue", description="What becomes of one that begins too early.")
    wait_for_input_s: float = Field(0.0, ge=0, le=LONGEST_WAIT_S, description="Look so long for input.")
    finish_by: str | None = Field(None, description="HH:MM in the time zone: warn if it will be later.")
    may_raise_priority: bool = Field(False, description="From bulk to standard, if it will be later.")
    incremental: bool = Field(False, description="Score only files that no earlier window has.")
    incremental_by: str | None = Field(
        None, description="Score only rows whose value in this column is greater than any scored before."
    )


class RunBody(BaseModel):
    """Which window to fire."""

    model_config = ConfigDict(extra="forbid", strict=True)

    window: str | None = Field(None, description="When it begins; the latest that has begun if left out.")
    again: bool = Field(False, description="Another time, if it has ended without a dataset.")


class BackfillBody(BaseModel):
    """Days to be scored, both included, in the schedule's time zone."""

    model_config = ConfigDict(extra="forbid", strict=True)

    first: str = Field(alias="from", pattern=DATE, description="The first day, as 2026-01-31.")
    last: str = Field(alias="to", pattern=DATE, description="The last one.")
    at_once: int = Field(1, ge=1, le=MOST_AT_ONCE, description="So many are under way at any time.")


class BackfillDocument(BaseModel):
    """How a backfill stands."""

    pending: int
    running: int
    at_once: int
    paused: bool


class ScheduleDocument(BaseModel):
    """A schedule, and the instants at which its next windows begin."""

    name: str
    cron: str
    request: ScoringBody
    timezone: str
    missed: MissedName
    overlap: OverlapName
    wait_for_input_s: float
    finish_by: str | None
    may_raise_priority: bool
    incremental: bool
    incremental_by: str | None
    watermark: str | None
    paused: bool
    next_windows: list[datetime]
    backfill: BackfillDocument
    created_at: datetime
    links: dict[str, str]


class SchedulesDocument(BaseModel):
    """Some schedules by name; `next_cursor` is null on the last page."""

    schedules: list[ScheduleDocument]
    next_cursor: str | None


class WindowDocument(BaseModel):
    """What became of a window; `seconds` is how long its scoring took."""

    window_start: datetime
    cause: Literal["cron", "run", "backfill"]
    state: Literal["pending", "skipped", "failed", "running", "complete", "cancelled"]
    rows: ScoringRowsDocument
    seconds: float | None
    drift: str
    scoring: str | None
    output: str | None
    error: ErrorDocument | None
    warning: str | None
    links: dict[str, str]


class HistoryDocument(BaseModel):
    """Some windows, the latest first; `next_cursor` is null on the last page."""

    windows: list[WindowDocument]
    next_cursor: int | None


class BackfilledDocument(BaseModel):
    """How many windows were queued."""

    windows: int


class RemovedDocument(BaseModel):
    """The schedule that there is no more."""

    name: str
