"""Schedules straight from Postgres: what can be refused is refused here, before anything is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

from shunter.producers.schedules.request import (
    FIRST_YEAR,
    MOST_AT_ONCE,
    DateRange,
    ScheduleStatus,
    WindowStatus,
    schedule_status,
    window_status,
)
from shunter.producers.submission import check_model_name
from shunter.storage.errors import InvalidInput
from shunter.storage.ids import parse_item_id
from shunter.storage.model_registry import ModelRegistry
from shunter.storage.schedules.definition import Definition, Schedule, check_name
from shunter.storage.schedules.repository import ScheduleRepository
from shunter.storage.scoring.request import ScoringRequest
from shunter.storage.scoring.sources import absolute

MOST_WINDOWS = 10_000
"""Windows of one backfill; a longer one is several."""


class Scheduler:
    """Satisfies Schedules with Postgres."""

    def __init__(self, repository: ScheduleRepository, registry: ModelRegistry) -> None:
        self._repository = repository
        self._registry = registry

    def add(self, name: str, definition: Definition) -> ScheduleStatus:
        """Raises InvalidInput, UnknownModel, ScheduleExists."""
        check_name(name)
        self._registry.get(check_model_name(definition.request.model), definition.request.version)
        definition = replace(definition, request=_resolved(definition.request))
        definition.check_places(self._repository.now())
        return self._status(self._repository.add(name, definition))

    def find(self, *, after: str = "", limit: int = 50) -> Sequence[ScheduleStatus]:
        return self._statuses(self._repository.find(after=after, limit=limit))

    def get(self, name: str) -> ScheduleStatus:
        return self._status(self._repository.get(name))

    def pause(self, name: str, *, paused: bool, backfill_only: bool = False) -> ScheduleStatus:
        change = self._repository.pause_backfill if backfill_only else self._repository.pause
        return self._status(change(name, paused=paused))

    def run(self, name: str, *, window: datetime | None = None, again: bool = False) -> WindowStatus:
        """Raises InvalidInput for an instant at which no window begins, or that is yet to come."""
        known = self._repository.get(name)
        now = self._repository.now()
        asked = now if window is None else window
        if asked.tzinfo is None:
            raise InvalidInput(f"window is {asked.isoformat()}: give it with its offset", field="window")
        if asked > now or asked.year < FIRST_YEAR:
            raise InvalidInput(
                f"the window of {asked.isoformat()} has not begun: run a past one", field="window"
            )
        start = known.definition.windows.latest(asked)
        if start is None:
            raise InvalidInput(f"no window of {name} has begun yet", field="window")
        if start != asked and window is not None:
            raise InvalidInput(
                f"no window of {name} begins at {window.isoformat()}: the one before begins at "
                f"{start.isoformat()}",
                field="window",
            )
        return window_status(self._repository.run(name, start, again=again))

    def backfill(self, name: str, days: DateRange, *, at_once: int = 1) -> int:
        """Raises InvalidInput for days without a window that has begun, or with too many."""
        if not 1 <= at_once <= MOST_AT_ONCE:
            raise InvalidInput(f"at_once is {at_once}: give 1 to {MOST_AT_ONCE}", field="at_once")
        known = self._repository.get(name)
        starts = _windows_of(known, days, until=self._repository.now())
        if not starts:
            raise InvalidInput(
                f"no window of {name} has begun from {days.first} to {days.last}: give past days",
                field="from",
            )
        return self._repository.backfill(name, starts, at_once=at_once)

    def history(
        self, name: str, *, before: datetime | None = None, limit: int = 50
    ) -> Sequence[WindowStatus]:
        return [window_status(r) for r in self._repository.history(name, before=before, limit=limit)]

    def remove(self, name: str) -> None:
        self._repository.remove(name)

    def _status(self, known: Schedule) -> ScheduleStatus:
        return self._statuses([known])[0]

    def _statuses(self, known: Sequence[Schedule]) -> list[ScheduleStatus]:
        counts, now = self._repository.backfill_counts([each.id for each in known]), self._repository.now()
        return [schedule_status(each, backfill=counts.get(each.id, (0, 0)), now=now) for each in known]


def _resolved(request: ScoringRequest) -> ScoringRequest:
    """As every hub understands it, wherever it runs; the templates in it stay. InvalidInput."""
    compare_to = request.compare_to
    return replace(
        request,
        input=_resolved_place(request.input),
        output=_resolved_place(request.output),
        compare_to=None if compare_to is None else str(parse_item_id(compare_to)[0]),
    )


def _resolved_place(place: str) -> str:
    # A URL is absolute, and what its templates have of percent signs is no quoting.
    return place if "://" in place else absolute(place)


def _windows_of(known: Schedule, days: DateRange, *, until: datetime) -> list[datetime]:
    zone = known.definition.windows.zone
    last = min(days.last, until.astimezone(zone).date())
    first = datetime.combine(days.first, time(), zone) - timedelta(seconds=1)
    end = datetime.combine(last + timedelta(days=1), time(), zone) - timedelta(seconds=1)
    starts: list[datetime] = []
    for start in known.definition.windows.between(first.astimezone(UTC), min(end.astimezone(UTC), until)):
        if len(starts) == MOST_WINDOWS:
            raise InvalidInput(
                f"more than {MOST_WINDOWS} windows begin from {days.first} to {days.last}: give fewer days",
                field="to",
            )
        starts.append(start)
    return starts
