"""Whether a window will have ended by the time that its schedule names; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a scoring gets on: rows that have ended, rows that are known, real seconds since it began.

    `fleet_rate` is what all workers that serve its model are measured to do, in rows per second.
    """

    rows_done: int
    rows_known: int
    elapsed_s: float
    fleet_rate: float

    @property
    def rate(self) -> float:
        """Rows per second: its own once it has one, else what the fleet could do for it."""
        return self.rows_done / self.elapsed_s if self.rows_done and self.elapsed_s else self.fleet_rate


def warning(pace: Pace | None, *, now: datetime, finish_at: datetime) -> str | None:
    """Why a window will be late, None while it will not be or nobody can say; `pace` once it has begun."""
    if now >= finish_at:
        return f"it has not ended by {finish_at:%Y-%m-%d %H:%M} UTC"
    if pace is None or not pace.rate:
        return None
    left = pace.rows_known - pace.rows_done
    ends_at = now + timedelta(seconds=left / pace.rate)
    if ends_at <= finish_at:
        return None
    return (
        f"{left} rows at {pace.rate:.1f} rows/s will end at {ends_at:%Y-%m-%d %H:%M} UTC, "
        f"and were to end by {finish_at:%Y-%m-%d %H:%M} UTC"
    )
