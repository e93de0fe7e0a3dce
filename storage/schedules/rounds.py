"""What the duty of firing does to schedules, as statements within its transactions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg2.extras import Json, execute_values

from shunter.storage.database import Cursor, fetch_all
from shunter.storage.errors import Conflict
from shunter.storage.job import Priority
from shunter.storage.schedules.definition import Definition, Schedule
from shunter.storage.schedules.firing import Decision, Standing
from shunter.storage.schedules.window import Cause, Window, WindowState, scoring_id
from shunter.storage.scoring.marks import Watermark, mark
from shunter.storage.scoring.repository import insert
from shunter.storage.scoring.sources import Source
from shunter.storage.scoring.spec import ScoringState, Spec

SCHEDULE_COLUMNS = """id, tenant, name, definition, decided_until, paused, backfill_paused, backfill_at_once,
    created_at, watermark"""

WINDOW_COLUMNS = "schedule, start, cause, w.state, attempt, scoring, tried_at, not_before, w.error, warning"

SCHEDULES = f"SELECT {SCHEDULE_COLUMNS} FROM schedules ORDER BY id"

# Two halves, so that each finds its rows by a partial index, however many windows there have been.
OPEN = f"""
SELECT {WINDOW_COLUMNS}, NULL AS scoring_state FROM schedule_windows AS w
WHERE w.state = '{WindowState.PENDING}'
UNION ALL
SELECT {WINDOW_COLUMNS}, s.state FROM schedule_windows AS w JOIN scorings AS s ON s.id = w.scoring
WHERE s.state = '{ScoringState.RUNNING}' AND w.state = '{WindowState.STARTED}'
"""

DECIDE = """
UPDATE schedules SET decided_until = %(until)s
WHERE id = %(id)s AND decided_until = %(before)s AND NOT paused RETURNING id
"""

INSERT_WINDOWS = """
INSERT INTO schedule_windows (schedule, start, cause, state, error) VALUES %s
ON CONFLICT (schedule, start) DO NOTHING
"""

LOCK = f"""
SELECT {WINDOW_COLUMNS}, NULL AS scoring_state FROM schedule_windows AS w
WHERE schedule = %(schedule)s AND start = %(start)s AND w.state = '{WindowState.PENDING}'
FOR UPDATE SKIP LOCKED
"""

# One statement, so that it is one snapshot: a scoring's end and its mark are seen together or not at all.
GOES_ON_AFTER = f"""
SELECT watermark FROM schedules WHERE id = %(schedule)s AND NOT EXISTS (
    SELECT FROM schedule_windows AS w JOIN scorings AS s ON s.id = w.scoring
    WHERE w.schedule = schedules.id AND w.state = '{WindowState.STARTED}'
      AND s.state = '{ScoringState.RUNNING}')
"""

START = f"""
UPDATE schedule_windows SET state = '{WindowState.STARTED}', scoring = %(scoring)s, error = NULL
WHERE schedule = %(schedule)s AND start = %(start)s AND state = '{WindowState.PENDING}'
"""

WAIT = f"""
UPDATE schedule_windows SET tried_at = %(tried_at)s, not_before = %(not_before)s, error = %(error)s
WHERE schedule = %(schedule)s AND start = %(start)s AND state = '{WindowState.PENDING}'
"""

END = f"""
UPDATE schedule_windows SET state = %(state)s, error = %(error)s
WHERE schedule = %(schedule)s AND start = %(start)s AND state = '{WindowState.PENDING}' RETURNING start
"""

WARN = f"""
UPDATE schedule_windows SET warning = %(warning)s
WHERE schedule = %(schedule)s AND start = %(start)s AND warning IS NULL
  AND state IN ('{WindowState.PENDING}', '{WindowState.STARTED}') RETURNING start
"""

# What has been queued already stays in its list: at most 128 chunks of about two seconds.
RAISE_PRIORITY = f"""
UPDATE scorings SET spec = jsonb_set(spec, '{{priority}}', to_jsonb('{Priority.STANDARD.label}'::text))
WHERE id = %s AND state = '{ScoringState.RUNNING}' AND spec ->> 'priority' = '{Priority.BULK.label}'
RETURNING id
"""

# A scoring that has been forgotten was complete: the others gave their files back.
SCORED = f"""
SELECT url, tag FROM schedule_files LEFT JOIN scorings ON scorings.id = schedule_files.scoring
WHERE schedule = %s
  AND coalesce(scorings.state IN ('{ScoringState.RUNNING}', '{ScoringState.COMPLETE}'), true)
"""

KEEP_FILES = """
INSERT INTO schedule_files (schedule, url, tag, scoring) VALUES %s
ON CONFLICT (schedule, url) DO UPDATE SET tag = excluded.tag, scoring = excluded.scoring
"""

# A schedule that was removed has no windows any more, whatever another one is called by now.
KEEP_MARK = """
UPDATE schedules SET watermark = %(until)s FROM schedule_windows AS w
WHERE w.scoring = %(scoring)s AND schedules.id = w.schedule
  AND watermark IS NOT DISTINCT FROM %(after)s::jsonb
"""

PROGRESS = """
SELECT rows_succeeded + rows_failed, coalesce(total_rows, planned_rows), spec ->> 'model',
    (spec ->> 'version')::int, extract(epoch FROM clock_timestamp() - created_at)::float8
FROM scorings WHERE id = %s
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a window's scoring has come."""

    rows_done: int
    rows_known: int
    model: str
    version: int
    elapsed_s: float


def standings(cursor: Cursor) -> list[Standing]:
    """Every schedule with its open windows."""
    cursor.execute(SCHEDULES)
    schedules = [schedule(row) for row in fetch_all(cursor)]
    if not schedules:
        return []
    cursor.execute(OPEN)
    open: dict[UUID, list[Window]] = defaultdict(list)
    for row in fetch_all(cursor):
        open[row["schedule"]].append(window(row))
    return [Standing(known, open[known.id]) for known in schedules]


def keep(cursor: Cursor, standing: Standing, decision: Decision) -> bool:
    """Store a decision; False if the schedule was changed meanwhile, so that it must be made anew."""
    known = standing.schedule
    names = {"id": known.id, "before": known.decided_until, "until": decision.until}
    cursor.execute(DECIDE, names)
    if cursor.fetchone() is None:
        return False
    add_windows(cursor, decision.windows)
    return True


def add_windows(cursor: Cursor, windows: Sequence[Window]) -> int:
    """Store those that there are not yet; returns how many."""
    rows = [
        (w.schedule, w.start, w.cause, w.state, None if w.error is None else Json(w.error)) for w in windows
    ]
    added = execute_values(cursor, f"{INSERT_WINDOWS} RETURNING start", rows, fetch=True) if rows else []
    return len(added)


def lock(cursor: Cursor, schedule: UUID, start: datetime) -> Window | None:
    """A pending window, locked to be moved on; None if it is no longer, or somebody has it."""
    cursor.execute(LOCK, {"schedule": schedule, "start": start})
    found = fetch_all(cursor)
    return window(found[0]) if found else None


def goes_on(cursor: Cursor, known: Schedule) -> Schedule | None:
    """A growing schedule as its last window has left it; None while one of its windows is under way.

    Who holds the duty's lock begins a window after that: what was decided on before may be out of date.
    """
    cursor.execute(GOES_ON_AFTER, {"schedule": known.id})
    found = cursor.fetchone()
    return None if found is None else replace(known, watermark=mark(found[0]))


def begin(
    cursor: Cursor, known: Schedule, open: Window, *, spec: Spec, sources: Sequence[Source], rows: int | None
) -> UUID:
    """Begin the scoring of a locked window, and keep which files it is of; Conflict."""
    id = scoring_id(known.id, open.start, open.attempt)
    insert(
        cursor,
        id,
        spec,
        sources,
        total_rows=rows,
        # An earlier attempt is no answer to the same question; that does not allow replacing what is there.
        force=spec.force or open.attempt > 0,
        tenant=known.tenant,
        schedule_name=known.name,
        window_start=open.start,
    )
    cursor.execute(START, {"schedule": known.id, "start": open.start, "scoring": id})
    if cursor.rowcount != 1:
        raise Conflict(f"the window {open.start} of {known.name} is not pending any more")
    if known.definition.incremental:
        execute_values(cursor, KEEP_FILES, [(known.id, source.url, source.tag, id) for source in sources])
    return id


def wait(
    cursor: Cursor, open: Window, *, tried_at: datetime, not_before: datetime, error: dict[str, Any]
) -> None:
    """Look again later for what a window lacks."""
    names = {"tried_at": tried_at, "not_before": not_before, "error": Json(error)}
    cursor.execute(WAIT, {**names, "schedule": open.schedule, "start": open.start})


def end(cursor: Cursor, open: Window, state: WindowState, error: dict[str, Any]) -> bool:
    """End a pending window without a scoring; whether it was pending."""
    names = {"schedule": open.schedule, "start": open.start, "state": state, "error": Json(error)}
    cursor.execute(END, names)
    return cursor.fetchone() is not None


def unscored(cursor: Cursor, known: Schedule, sources: Sequence[Source]) -> list[Source]:
    """Those files that no window has scored, or is scoring, as they are now."""
    cursor.execute(SCORED, (known.id,))
    scored = set(cursor.fetchall())
    return [source for source in sources if (source.url, source.tag) not in scored]


def keep_mark(cursor: Cursor, scoring: UUID, past: Watermark) -> None:
    """A window's scoring is complete: its schedule goes on after its last value."""
    after = None if past.after is None else Json(asdict(past.after))
    cursor.execute(KEEP_MARK, {"scoring": scoring, "after": after, "until": Json(asdict(past.until))})


def progress_of(cursor: Cursor, scoring: UUID) -> Progress:
    """How far the scoring of a window has come."""
    cursor.execute(PROGRESS, (scoring,))
    row = cursor.fetchone()
    assert row is not None, "a window's scoring is never removed before it; this is a bug"
    return Progress(*row)


def warn(cursor: Cursor, open: Window, warning: str) -> bool:
    """Say, once, that a window will be late; whether it was said now."""
    cursor.execute(WARN, {"schedule": open.schedule, "start": open.start, "warning": warning})
    return cursor.fetchone() is not None


def raise_priority(cursor: Cursor, scoring: UUID) -> bool:
    """Let a bulk scoring's chunks go as standard from now on; whether any do."""
    cursor.execute(RAISE_PRIORITY, (scoring,))
    return cursor.fetchone() is not None


def schedule(row: dict[str, Any]) -> Schedule:
    """A row of SCHEDULE_COLUMNS."""
    definition = Definition.from_document(row["definition"])
    return Schedule(**{**row, "definition": definition, "watermark": mark(row["watermark"])})


def window(row: dict[str, Any]) -> Window:
    """A row of WINDOW_COLUMNS and `scoring_state`."""
    state = row["scoring_state"]
    return Window(
        **{
            **row,
            "cause": Cause(row["cause"]),
            "state": WindowState(row["state"]),
            "scoring_state": None if state is None else ScoringState(state),
        }
    )
