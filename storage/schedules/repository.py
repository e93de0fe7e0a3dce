"""Schedules in Postgres, for those who write them and look at them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from psycopg2.extras import Json

from shunter.storage import clock
from shunter.storage.database import Cursor, Database, fetch_all
from shunter.storage.errors import Conflict, NotFound
from shunter.storage.ids import new_id
from shunter.storage.job import DEFAULT_TENANT
from shunter.storage.schedules.definition import Definition, Schedule
from shunter.storage.schedules.history import HISTORY_COLUMNS, WindowRecord, window_record
from shunter.storage.schedules.rounds import SCHEDULE_COLUMNS, add_windows, schedule
from shunter.storage.schedules.window import Cause, Window, WindowState
from shunter.storage.scoring.spec import ScoringState

INSERT = f"""
INSERT INTO schedules (id, tenant, name, definition, decided_until)
VALUES (%(id)s, %(tenant)s, %(name)s, %(definition)s, %(now)s)
ON CONFLICT (tenant, name) DO NOTHING RETURNING {SCHEDULE_COLUMNS}
"""

GET = f"SELECT {SCHEDULE_COLUMNS} FROM schedules WHERE tenant = %(tenant)s AND name = %(name)s"

FIND = f"""
SELECT {SCHEDULE_COLUMNS} FROM schedules WHERE tenant = %(tenant)s AND name > %(after)s
ORDER BY name LIMIT %(limit)s
"""

HISTORY = f"""
SELECT {HISTORY_COLUMNS} FROM schedule_windows AS w LEFT JOIN scorings AS s ON s.id = w.scoring
WHERE schedule = %(id)s AND (%(before)s::timestamptz IS NULL OR start < %(before)s)
ORDER BY start DESC LIMIT %(limit)s
"""

ONE_WINDOW = f"""
SELECT {HISTORY_COLUMNS} FROM schedule_windows AS w LEFT JOIN scorings AS s ON s.id = w.scoring
WHERE schedule = %(id)s AND start = %(start)s
"""

# Only what has ended without a dataset: the attempt gives its next scoring an id of its own.
AGAIN = f"""
UPDATE schedule_windows AS w SET state = '{WindowState.PENDING}', attempt = attempt + 1, cause = %(cause)s,
    scoring = NULL, tried_at = NULL, not_before = NULL, error = NULL, warning = NULL
WHERE schedule = %(id)s AND start = ANY(%(starts)s::timestamptz[])
  AND (state IN ('{WindowState.SKIPPED}', '{WindowState.FAILED}') OR EXISTS (
    SELECT FROM scorings WHERE id = w.scoring
      AND scorings.state IN ('{ScoringState.FAILED}', '{ScoringState.CANCELLED}')))
"""

BACKFILL_COUNTS = f"""
SELECT schedule, count(*) FILTER (WHERE w.state = '{WindowState.PENDING}'),
    count(*) FILTER (WHERE s.state = '{ScoringState.RUNNING}')
FROM schedule_windows AS w LEFT JOIN scorings AS s ON s.id = w.scoring
WHERE schedule = ANY(%s::uuid[]) AND cause = '{Cause.BACKFILL}' GROUP BY schedule
"""


class UnknownSchedule(NotFound):
    """No schedule has this name."""

    code = "unknown_schedule"

    def __init__(self, name: str) -> None:
        super().__init__(f"no schedule is called {name!r}: `shunter schedule list` lists them")


class ScheduleExists(Conflict):
    """Another schedule has this name."""

    code = "schedule_exists"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"a schedule called {name!r} says something else: give another name, or remove it first "
            "(its datasets and scorings stay)"
        )


class ScheduleRepository:
    """The writer of schedules, and the reader of their history; what fires them is the duty."""

    def __init__(self, database: Database, *, tenant: str = DEFAULT_TENANT) -> None:
        self._database = database
        self._tenant = tenant

    def now(self) -> datetime:
        """The time that schedules go by."""
        with self._database.transaction() as cursor:
            return clock.fleet_time(cursor)

    def add(self, name: str, definition: Definition) -> Schedule:
        """Store a schedule; its windows begin from now on. The same one again is found; ScheduleExists."""
        with self._database.transaction() as cursor:
            now = clock.fleet_time(cursor)
            names = {"id": new_id(), "definition": Json(definition.document()), "now": now}
            cursor.execute(INSERT, {**names, "tenant": self._tenant, "name": name})
            found = fetch_all(cursor)
            known = schedule(found[0]) if found else self._get(cursor, name)
        if _digest(known.definition) != _digest(definition):
            raise ScheduleExists(name)
        return known

    def get(self, name: str) -> Schedule:
        """One schedule; UnknownSchedule."""
        with self._database.transaction() as cursor:
            return self._get(cursor, name)

    def find(self, *, after: str = "", limit: int = 50) -> list[Schedule]:
        """Schedules by name, those behind `after`."""
        with self._database.transaction() as cursor:
            cursor.execute(FIND, {"tenant": self._tenant, "after": after, "limit": limit})
            return [schedule(row) for row in fetch_all(cursor)]

    def pause(self, name: str, *, paused: bool) -> Schedule:
        """Hold a schedule, or let it go on; what is under way goes on. UnknownSchedule."""
        return self._change(name, "paused = %(value)s", paused)

    def pause_backfill(self, name: str, *, paused: bool) -> Schedule:
        """The same for its backfill alone."""
        return self._change(name, "backfill_paused = %(value)s", paused)

    def run(self, name: str, start: datetime, *, again: bool = False) -> WindowRecord:
        """Fire one window, once; with `again` another time, if it has ended without a dataset."""
        with self._database.transaction() as cursor:
            known = self._get(cursor, name)
            add_windows(cursor, [Window(schedule=known.id, start=start, cause=Cause.RUN)])
            if again:
                _try_again(cursor, known.id, [start], Cause.RUN)
            cursor.execute(ONE_WINDOW, {"id": known.id, "start": start})
            return window_record(fetch_all(cursor)[0])

    def backfill(self, name: str, starts: Sequence[datetime], *, at_once: int) -> int:
        """Queue windows, `at_once` of which are under way at any time; those that were scored are left out.

        Returns how many were queued: new ones, and those that had ended without a dataset.
        """
        with self._database.transaction() as cursor:
            known = self._get(cursor, name)
            queued = _try_again(cursor, known.id, starts, Cause.BACKFILL)
            windows = [Window(schedule=known.id, start=start, cause=Cause.BACKFILL) for start in starts]
            queued += add_windows(cursor, windows)
            cursor.execute(
                "UPDATE schedules SET backfill_at_once = %s, backfill_paused = false WHERE id = %s",
                (at_once, known.id),
            )
        return queued

    def backfill_counts(self, ids: Sequence[UUID]) -> dict[UUID, tuple[int, int]]:
        """How many windows of these schedules' backfills are pending, and how many under way."""
        with self._database.transaction() as cursor:
            cursor.execute(BACKFILL_COUNTS, (list(ids),))
            return {id: (pending, running) for id, pending, running in cursor.fetchall()}

    def history(self, name: str, *, before: datetime | None = None, limit: int = 50) -> list[WindowRecord]:
        """What became of its windows, the latest first, those that begin before `before`."""
        with self._database.transaction() as cursor:
            known = self._get(cursor, name)
            cursor.execute(HISTORY, {"id": known.id, "before": before, "limit": limit})
            return [window_record(row) for row in fetch_all(cursor)]

    def remove(self, name: str) -> None:
        """Forget a schedule and its windows; scorings under way go on, and datasets stay."""
        with self._database.transaction() as cursor:
            known = self._get(cursor, name, lock="FOR UPDATE")
            for table in ("schedule_files", "schedule_windows"):
                cursor.execute(f"DELETE FROM {table} WHERE schedule = %s", (known.id,))
            cursor.execute("DELETE FROM schedules WHERE id = %s", (known.id,))

    def _change(self, name: str, what: str, value: bool) -> Schedule:
        statement = f"""
            UPDATE schedules SET {what} WHERE tenant = %(tenant)s AND name = %(name)s
            RETURNING {SCHEDULE_COLUMNS}
        """
        with self._database.transaction() as cursor:
            cursor.execute(statement, {"tenant": self._tenant, "name": name, "value": value})
            found = fetch_all(cursor)
        if not found:
            raise UnknownSchedule(name)
        return schedule(found[0])

    # FOR SHARE: whoever adds a window must not do so to a schedule that is being removed.
    def _get(self, cursor: Cursor, name: str, *, lock: str = "FOR SHARE") -> Schedule:
        cursor.execute(f"{GET} {lock}", {"tenant": self._tenant, "name": name})
        found = fetch_all(cursor)
        if not found:
            raise UnknownSchedule(name)
        return schedule(found[0])


def _try_again(cursor: Cursor, id: UUID, starts: Sequence[datetime], cause: Cause) -> int:
    cursor.execute(AGAIN, {"id": id, "starts": list(starts), "cause": cause})
    return cursor.rowcount


def _digest(definition: Definition) -> Any:
    return orjson.loads(orjson.dumps(definition.document()))
