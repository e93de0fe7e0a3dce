"""The duty of firing: decides which windows have begun, and begins the scoring of those whose turn it is.

First the windows are committed, one row each, then each scoring with its window's move to `started`. A kill
in between leaves a pending window, which the next round of any hub begins; a kill after it leaves nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from shunter.storage import clock, failpoints
from shunter.storage.database import Cursor
from shunter.storage.duty_locks import DutyLock
from shunter.storage.errors import Conflict, InvalidInput, NotFound, SettingsError, ShunterError
from shunter.storage.job_repair import JobRepair
from shunter.storage.model_registry import ModelRegistry
from shunter.storage.schedules import rounds
from shunter.storage.schedules.cron import find_zone
from shunter.storage.schedules.definition import Schedule
from shunter.storage.schedules.firing import Standing, decide, turns
from shunter.storage.schedules.input import InputMissing, NothingNew, look
from shunter.storage.schedules.lateness import Pace, warning
from shunter.storage.schedules.window import Window, WindowState, scoring_id
from shunter.storage.scoring.destination import open_destination
from shunter.storage.worker_registry import WorkerRegistry, rows_per_s
from shunter.workers.scoring_round import each_scoring

log = logging.getLogger(__name__)


LOOK_AGAIN = timedelta(seconds=30)
"""After that a window's missing input is looked for again."""

Turn = tuple[Schedule, Window]


class ScheduleFiring:
    """Fires every schedule's windows, each once, whoever runs this and whoever dies."""

    interval_s = 1.0

    def __init__(
        self, repair: JobRepair, registry: ModelRegistry, workers: WorkerRegistry, *, store_url: str
    ) -> None:
        self._repair = repair
        self._registry = registry
        self._workers = workers
        self._store_url = store_url
        self._waits: dict[UUID, str] = {}

    def run_once(self) -> int:
        """One round; returns how many windows have begun or ended. Raises Unavailable."""
        with self._repair.duty(DutyLock.FIRE_SCHEDULES) as cursor:
            if cursor is None:
                return 0
            now = clock.fleet_time(cursor)
            standings = self._standings(cursor)
            decided = [_decide(cursor, standing, now) for standing in standings]
            if any(decided):
                standings = self._standings(cursor)
            self._watch(cursor, standings, now)
        if any(decided):
            failpoints.hit("schedule.decided")
        due = {
            scoring_id(standing.schedule.id, window.start, window.attempt): (standing.schedule, window)
            for standing in standings
            for window in turns(standing, now)
        }
        return each_scoring(due, lambda id: self._begin(*due[id]))

    def _standings(self, cursor: Cursor) -> list[Standing]:
        """Every schedule whose time zone this host knows, with its open windows."""
        return [standing for standing in rounds.standings(cursor) if self._knows_zone(standing.schedule)]

    def _knows_zone(self, known: Schedule) -> bool:
        try:
            find_zone(known.definition.timezone)
        except InvalidInput as error:
            self._wait(known, error)
            return False
        return True

    def _begin(self, known: Schedule, due: Window) -> bool:
        """Begin a window's scoring, if it is still to be begun; whether the window has begun or ended."""
        try:
            with self._repair.duty(DutyLock.FIRE_SCHEDULES) as cursor:
                window = None if cursor is None else rounds.lock(cursor, known.id, due.start)
                if cursor is None or window is None:
                    return False
                current = rounds.goes_on(cursor, known) if known.definition.grows else known
                if current is None:
                    return False
                state = self._score(cursor, current, window)
        except SettingsError as error:
            self._wait(known, error)
            return False
        except (InvalidInput, NotFound, Conflict) as error:
            return self._fail(known, due, error)
        if state is WindowState.STARTED:
            failpoints.hit("schedule.begun")
        return state is not WindowState.PENDING

    def _score(self, cursor: Cursor, known: Schedule, window: Window) -> WindowState:
        request = known.definition.request_at(window.start)
        model = self._registry.get(request.model, request.version)
        try:
            found = look(
                cursor,
                known,
                request=request,
                model=model,
                workers=self._workers.present(),
                store_url=self._store_url,
            )
        except InputMissing as error:
            return _wait_for_input(cursor, known, window, error)
        id = rounds.begin(cursor, known, window, spec=found.spec, sources=found.sources, rows=found.rows)
        if not found.spec.force and found.spec.table is None:
            open_destination(found.spec.output, id).check_free()
        log.info("the window %s of %s has begun: scoring %s", window.start, known.name, id)
        return WindowState.STARTED

    def _fail(self, known: Schedule, window: Window, error: ShunterError) -> bool:
        document = {"code": error.code, "message": error.message}
        with self._repair.duty(DutyLock.FIRE_SCHEDULES) as cursor:
            ended = cursor is not None and rounds.end(cursor, window, WindowState.FAILED, document)
        if ended:
            log.warning("the window %s of %s has failed: %s", window.start, known.name, error)
        return ended

    def _wait(self, known: Schedule, error: InvalidInput) -> None:
        """Somebody must act, or another hub can go on: said once, not at every round."""
        if self._waits.get(known.id) != error.message:
            self._waits[known.id] = error.message
            log.warning("this hub cannot fire the schedule %s: %s", known.name, error)

    def _watch(self, cursor: Cursor, standings: Sequence[Standing], now: datetime) -> None:
        """Warn, once each, of windows that will not have ended by the time that their schedule names."""
        for standing in standings:
            for window in standing.open:
                finish_at = standing.schedule.definition.finish_at(window.start)
                if finish_at is None or window.warning is not None:
                    continue
                pace = None if window.scoring is None else self._pace(cursor, window.scoring)
                said = warning(pace, now=now, finish_at=finish_at)
                if said is not None and rounds.warn(cursor, window, said):
                    self._hurry(cursor, standing.schedule, window)
                    log.warning("%s of %s is late: %s", window.start, standing.schedule.name, said)

    def _hurry(self, cursor: Cursor, known: Schedule, window: Window) -> None:
        if window.scoring is None or not known.definition.may_raise_priority:
            return
        if rounds.raise_priority(cursor, window.scoring):
            log.info("the next chunks of %s of %s go as standard", window.start, known.name)

    def _pace(self, cursor: Cursor, scoring: UUID) -> Pace:
        progress = rounds.progress_of(cursor, scoring)
        serving = [
            worker
            for worker in self._workers.present()
            if worker.live and worker.serving(progress.model, progress.version) is not None
        ]
        return Pace(
            rows_done=progress.rows_done,
            rows_known=progress.rows_known,
            elapsed_s=progress.elapsed_s,
            fleet_rate=len(serving) * rows_per_s(serving, progress.model, progress.version),
        )


def _decide(cursor: Cursor, standing: Standing, now: datetime) -> bool:
    decision = decide(standing, now)
    return decision is not None and rounds.keep(cursor, standing, decision)


def _wait_for_input(cursor: Cursor, known: Schedule, window: Window, error: InputMissing) -> WindowState:
    """Look again later, or end the window when its time for that is over; what it is now."""
    now = clock.fleet_time(cursor)
    first = window.tried_at or now
    until = first + timedelta(seconds=known.definition.wait_for_input_s)
    document = {"code": error.code, "message": error.message}
    if now < until:
        rounds.wait(cursor, window, tried_at=first, not_before=min(now + LOOK_AGAIN, until), error=document)
        return WindowState.PENDING
    if first < until:
        document["message"] += f" (looked for from {first:%Y-%m-%d %H:%M:%S} to {now:%Y-%m-%d %H:%M:%S} UTC)"
    state = WindowState.SKIPPED if isinstance(error, NothingNew) else WindowState.FAILED
    rounds.end(cursor, window, state, document)
    log.warning("the window %s of %s is %s: %s", window.start, known.name, state, document["message"])
    return state
