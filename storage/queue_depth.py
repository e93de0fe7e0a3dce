"""How much waits, by model and priority: for metrics, which ask now and then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shunter.storage.database import Database
from shunter.storage.job import JobState, Priority

# Answered from the partial index of queued jobs alone.
DEPTHS = f"""
SELECT model, priority, count(*), greatest(extract(epoch FROM now() - min(enqueued_at)), 0)::float8
FROM jobs WHERE state = '{JobState.QUEUED}' GROUP BY model, priority ORDER BY model, priority
"""


@dataclass(frozen=True, slots=True)
class Depth:
    """The queued jobs of one model and priority, and how long the oldest of them has waited."""

    model: str
    priority: Priority
    jobs: int
    oldest_s: float


def depths(database: Database) -> Sequence[Depth]:
    """Every line that is not empty."""
    with database.transaction() as cursor:
        cursor.execute(DEPTHS)
        return [Depth(model, Priority(code), jobs, age) for model, code, jobs, age in cursor.fetchall()]
