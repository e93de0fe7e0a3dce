"""The handle of a schedule."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

from shunter.producers.schedules.request import DateRange, Schedules, ScheduleStatus, WindowStatus

if TYPE_CHECKING:
    from shunter.producers.client import Client


class Schedule:
    """A dataset that is scored again and again; the fleet fires it, whoever holds this.

    Every call raises UnknownSchedule if there is none of its name, and Unavailable.
    """

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    def status(self) -> ScheduleStatus:
        """What it says, its next windows, and how its backfill stands."""
        return self._schedules.get(self._name)

    def pause(self) -> ScheduleStatus:
        """Begin no window any more; what is under way goes on."""
        return self._schedules.pause(self._name, paused=True)

    def resume(self) -> ScheduleStatus:
        """Go on; windows that passed meanwhile are missed, and treated as the schedule says."""
        return self._schedules.pause(self._name, paused=False)

    def run(self, *, window: datetime | None = None, again: bool = False) -> WindowStatus:
        """Fire a window, the latest that has begun if none is named; one that was fired is left alone.

        So anything else that knows the time may call this as well, and each window still runs once.

        Args:
            window: when it begins, to the second, with a time zone.
            again: try it another time, if it was skipped, failed or cancelled.
        """
        return self._schedules.run(self._name, window=window, again=again)

    def backfill(self, first: date, last: date, *, at_once: int = 1) -> int:
        """Score the windows of past days, both included, of which there is no dataset yet; how many.

        Args:
            at_once: so many of them are under way at any time.
        """
        return self._schedules.backfill(self._name, DateRange(first, last), at_once=at_once)

    def pause_backfill(self) -> ScheduleStatus:
        """Begin no window of the backfill any more."""
        return self._schedules.pause(self._name, paused=True, backfill_only=True)

    def resume_backfill(self) -> ScheduleStatus:
        """Go on with it."""
        return self._schedules.pause(self._name, paused=False, backfill_only=True)

    def history(self, *, before: datetime | None = None, limit: int = 50) -> Sequence[WindowStatus]:
        """What became of its windows, the latest first, those that begin before `before`."""
        return self._schedules.history(self._name, before=before, limit=limit)

    def remove(self) -> None:
        """Forget it and its history; scorings under way go on, and datasets stay."""
        self._schedules.remove(self._name)

    @property
    def _schedules(self) -> Schedules:
        return self._client.backend.schedules

    def __repr__(self) -> str:
        return f"Schedule({self._name!r})"
