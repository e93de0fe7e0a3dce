"""What is to be done about schedules now; pure: schedules, open windows and the time in, decisions out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from shunter.storage.schedules.definition import Missed, Overlap, Schedule
from shunter.storage.schedules.window import Cause, Window, WindowState

GRACE = timedelta(minutes=15)
"""A window that is decided on later than that has been missed."""

MOST_WINDOWS = 1000
"""Decided on in one round; those of a line that fires every minute and was paused for a year take several."""

MISSED = {
    "code": "window_missed",
    "message": "no worker was there, or the schedule was paused, when it began",
}
OVERLAPPED = {"code": "window_overlapped", "message": "an earlier window had not ended when it began"}


@dataclass(frozen=True, slots=True)
class Standing:
    """A schedule and its open windows: those that are pending, or whose scoring is under way."""

    schedule: Schedule
    open: Sequence[Window]


@dataclass(frozen=True, slots=True)
class Decision:
    """New windows, and up to when that decides what becomes of all."""

    windows: Sequence[Window]
    until: datetime


def decide(standing: Standing, now: datetime) -> Decision | None:
    """What becomes of the windows that have begun since the last decision; None if none has."""
    schedule = standing.schedule
    if schedule.paused:
        return None
    begun = list(islice(schedule.definition.windows.between(schedule.decided_until, now), MOST_WINDOWS + 1))
    if not begun:
        return None
    here, more = begun[:MOST_WINDOWS], len(begun) > MOST_WINDOWS
    busy = any(window.cause is not Cause.BACKFILL for window in standing.open)
    windows = []
    for start in here:
        latest = start == here[-1] and not more
        error = _refusal(schedule, missed=now - start > GRACE, latest=latest, busy=busy)
        state = WindowState.PENDING if error is None else WindowState.SKIPPED
        windows.append(Window(schedule=schedule.id, start=start, cause=Cause.CRON, state=state, error=error))
        busy = busy or error is None
    return Decision(windows, here[-1])


def _refusal(schedule: Schedule, *, missed: bool, latest: bool, busy: bool) -> dict[str, str] | None:
    definition = schedule.definition
    if missed:
        wanted = definition.missed is Missed.CATCH_UP or (definition.missed is Missed.LATEST and latest)
        return None if wanted else MISSED
    return OVERLAPPED if busy and definition.overlap is Overlap.SKIP else None


def turns(standing: Standing, now: datetime) -> list[Window]:
    """The pending windows whose turn it is: the oldest of those that begin with the clock, if none of them
    is under way, and beside it as many of a backfill as it may have at once.

    A window that waits for its input keeps its place. In incremental mode there is one line, and one window
    at a time, since each depends on what the one before has scored.
    """
    schedule = standing.schedule
    nightly = [window for window in standing.open if window.cause is not Cause.BACKFILL]
    backfill = [window for window in standing.open if window.cause is Cause.BACKFILL]
    # What somebody asks for by hand runs while the schedule is paused.
    by_hand = Cause.RUN if schedule.paused else None
    held = schedule.paused or schedule.backfill_paused
    chosen = [
        *_first(nightly, 1, only=by_hand),
        *_first(backfill, 0 if held else schedule.backfill_at_once),
    ]
    if schedule.definition.grows:
        chosen = [] if any(window.running for window in standing.open) else chosen[:1]
    return [window for window in chosen if window.not_before is None or window.not_before <= now]


def _first(windows: Sequence[Window], at_once: int, *, only: Cause | None = None) -> list[Window]:
    free = at_once - sum(window.running for window in windows)
    pending = [window for window in windows if not window.running and only in (None, window.cause)]
    return sorted(pending, key=lambda window: window.start)[: max(0, free)]
