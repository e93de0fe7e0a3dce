"""What is left of scorings that ended long ago: their rows, and staged inputs that nobody names."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from shunter.storage.database import Database
from shunter.storage.job_retention import Keep
from shunter.storage.object_store import ObjectStore
from shunter.storage.schedules.window import WindowState
from shunter.storage.scoring.reports import ReportState, page_key
from shunter.storage.scoring.sources import FOR_TABLES, STAGED
from shunter.storage.scoring.spec import ScoringState

PAGE = 100

# The next window is compared with it, however long that takes to come.
LAST_OF_ITS_SCHEDULE = f"""(
    schedule_name IS NOT NULL
    AND EXISTS (SELECT FROM scoring_reports WHERE scoring = old.id AND state = '{ReportState.READY}')
    AND EXISTS (SELECT FROM schedules WHERE tenant = old.tenant AND name = old.schedule_name)
    AND NOT EXISTS (
        SELECT FROM scorings AS later JOIN scoring_reports AS r
            ON r.scoring = later.id AND r.state = '{ReportState.READY}'
        WHERE later.tenant = old.tenant AND later.schedule_name = old.schedule_name
          AND later.window_start > old.window_start))"""

# Whoever runs failed rows again reads the chunks of the earlier scoring.
OLD = f"""
SELECT id, output FROM scorings AS old
WHERE finished_at < now() - CASE WHEN state = '{ScoringState.FAILED}'
    THEN make_interval(secs => %(keep_failed_s)s) ELSE make_interval(secs => %(keep_s)s) END
  AND state <> '{ScoringState.RUNNING}'
  AND NOT EXISTS (SELECT FROM scorings WHERE state = '{ScoringState.RUNNING}'
                  AND spec ->> 'retries' = old.id::text)
  AND NOT {LAST_OF_ITS_SCHEDULE}
ORDER BY id LIMIT %(limit)s
"""

# What is left counts as scored, though its scoring is not there any more.
GIVE_FILES_BACK = f"""
DELETE FROM schedule_files AS files USING scorings
WHERE scorings.id = %s AND files.scoring = scorings.id AND scorings.state <> '{ScoringState.COMPLETE}'
"""

# A window tells of its scoring as long as that is there, and from then on of itself.
FAIL_WINDOWS = f"""
UPDATE schedule_windows AS w
SET state = '{WindowState.FAILED}', error = coalesce(s.error, jsonb_build_object(
    'code', s.state, 'message', 'its scoring was ' || s.state || ', and has been forgotten since'))
FROM scorings AS s
WHERE s.id = %s AND w.scoring = s.id AND w.state = '{WindowState.STARTED}'
  AND s.state <> '{ScoringState.COMPLETE}'
"""

NAMED = f"""
SELECT substring(sources -> 0 ->> 'url' FROM '{STAGED}/([^/]+)/') FROM scorings
UNION SELECT substring(output FROM '{FOR_TABLES}/([^/]+)') FROM scorings
"""


class OldScoring(NamedTuple):
    """A scoring that has been kept long enough, and where its output went."""

    id: UUID
    output: str


class ScoringRetention:
    """Finds and removes what is old enough. Datasets that were published are their owners', and stay."""

    def __init__(self, database: Database, store: ObjectStore, keep: Keep) -> None:
        self._database = database
        self._store = store
        self._names = {"keep_s": keep.keep_s, "keep_failed_s": keep.keep_failed_s, "limit": PAGE}
        self._keep_inputs = timedelta(seconds=keep.keep_s)

    def old(self) -> list[OldScoring]:
        """Some scorings that have been kept long enough."""
        with self._database.transaction() as cursor:
            cursor.execute(OLD, self._names)
            return [OldScoring(*row) for row in cursor.fetchall()]

    def remove(self, id: UUID) -> None:
        """Remove the rows of one that has ended, and its report; the page first, which only they name."""
        self._store.delete([page_key(id)])
        with self._database.transaction() as cursor:
            cursor.execute("DELETE FROM scoring_reports WHERE scoring = %s", (id,))
            cursor.execute("DELETE FROM scoring_chunks WHERE scoring = %s", (id,))
            cursor.execute(GIVE_FILES_BACK, (id,))
            cursor.execute(FAIL_WINDOWS, (id,))
            cursor.execute("DELETE FROM scorings WHERE id = %s", (id,))

    def sweep_inputs(self) -> int:
        """Remove what was staged, for input or a table, and no scoring names; returns how many objects."""
        # Looked at before the names are: what is staged anew meanwhile is young.
        folders = self._staged()
        with self._database.transaction() as cursor:
            cursor.execute(NAMED)
            named = {folder for (folder,) in cursor.fetchall()}
        before = datetime.now(UTC) - self._keep_inputs
        old = [
            key
            for folder, objects in folders.items()
            if folder not in named and max(objects.values()) < before
            for key in objects
        ]
        self._store.delete(old)
        return len(old)

    def _staged(self) -> dict[str, dict[str, datetime]]:
        folders: dict[str, dict[str, datetime]] = defaultdict(dict)
        for prefix in (STAGED, FOR_TABLES):
            for info in self._store.list(f"{prefix}/"):
                folders[info.key.split("/")[1]][info.key] = info.modified
        return folders
