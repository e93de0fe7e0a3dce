"""What became of a schedule's windows: one record each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from shunter.storage.schedules.window import Cause, WindowState
from shunter.storage.scoring.spec import ScoringState

# A window whose scoring was forgotten: had it not been complete, it would not say `started` any more.
GONE = f"CASE w.state WHEN '{WindowState.STARTED}' THEN '{ScoringState.COMPLETE}' ELSE w.state END"

HISTORY_COLUMNS = f"""start, cause, coalesce(s.state, {GONE}) AS state, attempt, scoring,
    coalesce(s.error, w.error) AS error, warning, coalesce(s.rows_succeeded, 0) AS rows_succeeded,
    coalesce(s.rows_failed, 0) AS rows_failed, s.total_rows,
    coalesce(s.spec ->> 'table', s.spec ->> 'output') AS output,
    (SELECT drifted FROM scoring_reports WHERE scoring_reports.scoring = w.scoring) AS drifted,
    extract(epoch FROM coalesce(s.finished_at, now()) - s.created_at)::float8 AS seconds"""

DRIFT = {None: "-", False: "no", True: "yes"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRecord:
    """A window as people see it: `state` is pending, skipped, failed, or that of its scoring.

    `drifted` is what its scoring's report says, None while none says anything. `seconds` is how long its
    scoring took, or has taken so far.
    """

    start: datetime
    cause: Cause
    state: str
    attempt: int
    scoring: UUID | None
    error: dict[str, Any] | None
    warning: str | None
    rows_succeeded: int
    rows_failed: int
    total_rows: int | None
    output: str | None
    drifted: bool | None
    seconds: float | None

    @property
    def drift(self) -> str:
        """Whether its data drifted, in a word."""
        return DRIFT[self.drifted]

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it by itself."""
        return self.state not in (WindowState.PENDING, "running")


def window_record(row: dict[str, Any]) -> WindowRecord:
    """A row of HISTORY_COLUMNS."""
    return WindowRecord(**{**row, "cause": Cause(row["cause"])})
