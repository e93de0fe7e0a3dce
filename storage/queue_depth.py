"""How much waits, by model and priority or version: for those who ask now and then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shunter.storage.database import Database
from shunter.storage.job import JobState, Priority
from shunter.storage.scoring.spec import ScoringState

# Answered from the partial index of queued jobs alone.
DEPTHS = f"""
SELECT model, priority, count(*), greatest(extract(epoch FROM now() - min(enqueued_at)), 0)::float8
FROM jobs WHERE state = '{JobState.QUEUED}' GROUP BY model, priority ORDER BY model, priority
"""

QUEUED_VERSIONS = f"""
SELECT model, version, count(*), coalesce(greatest(extract(epoch FROM now() - min(enqueued_at)
    FILTER (WHERE not_before IS NULL OR not_before <= now())), 0), 0)::float8
FROM jobs WHERE state = '{JobState.QUEUED}' GROUP BY model, version ORDER BY model, version
"""

# A scoring's next chunks are of its version too, and are not jobs yet.
UNFINISHED_VERSIONS = f"""
SELECT DISTINCT version FROM jobs
WHERE model = %(model)s AND state IN ('{JobState.QUEUED}', '{JobState.RUNNING}')
UNION SELECT (spec->>'version')::int FROM scorings
WHERE state = '{ScoringState.RUNNING}' AND spec->>'model' = %(model)s
"""


@dataclass(frozen=True, slots=True)
class Depth:
    """The queued jobs of one model and priority, and how long the oldest of them has waited."""

    model: str
    priority: Priority
    jobs: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class QueuedVersion:
    """The queued jobs of one model version; `overdue_s` is how long the oldest that may run has waited."""

    model: str
    version: int
    jobs: int
    overdue_s: float


def queued_versions(database: Database) -> Sequence[QueuedVersion]:
    """Every version with queued jobs. Reads each of their rows, unlike `depths`."""
    with database.transaction() as cursor:
        cursor.execute(QUEUED_VERSIONS)
        return [QueuedVersion(*row) for row in cursor.fetchall()]


def unfinished_versions(database: Database, model: str) -> set[int]:
    """The versions of a model that have jobs or scorings queued or running."""
    with database.transaction() as cursor:
        cursor.execute(UNFINISHED_VERSIONS, {"model": model})
        return {row[0] for row in cursor.fetchall()}


def depths(database: Database) -> Sequence[Depth]:
    """Every line that is not empty."""
    with database.transaction() as cursor:
        cursor.execute(DEPTHS)
        return [Depth(model, Priority(code), jobs, age) for model, code, jobs, age in cursor.fetchall()]
