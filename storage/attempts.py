"""How the runs of a job failed: the last ones of each job, written by the settlement that ended them.

A table of its own, because nearly no job ever has such a run: settling the others costs nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shunter.storage.database import Cursor
from shunter.storage.job import Move
from shunter.storage.outcome import Outcome, error_document

KEPT = 10
"""Attempts remembered of one job."""

# A settlement that is repeated after a lost reply writes nothing, and this neither.
RECORD = """
INSERT INTO attempts (job_id, epoch, worker, code, message)
SELECT failed.*
FROM (SELECT unnest(%(ids)s::uuid[]) AS job_id, unnest(%(epochs)s::int[]),
        (SELECT name FROM workers WHERE incarnation = %(worker)s),
        unnest(%(codes)s::text[]), unnest(%(messages)s::text[])) AS failed
ON CONFLICT DO NOTHING
"""

TRIM = """
DELETE FROM attempts USING (
    SELECT job_id, epoch, row_number() OVER (PARTITION BY job_id ORDER BY epoch DESC) AS place
    FROM attempts WHERE job_id = ANY(%(ids)s::uuid[])
) AS ranked
WHERE attempts.job_id = ranked.job_id AND attempts.epoch = ranked.epoch AND place > %(kept)s
"""

OF_JOB = "SELECT epoch, at, worker, code, message FROM attempts WHERE job_id = %(id)s ORDER BY epoch"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run that failed: which claim of the job it was, when, on which worker, and why."""

    epoch: int
    at: datetime
    worker: str | None
    code: str
    message: str


def record(cursor: Cursor, settled: Sequence[Outcome], *, worker: UUID) -> None:
    """Remember those of these outcomes that say why a run failed; a part of their transaction."""
    # A run that only met an outage is none of the job's attempts, and would push out those that are.
    failed = [o for o in settled if o.error and (o.counts_attempt or o.move is Move.FAIL)]
    if not failed:
        return
    errors = [error_document(outcome.error) or {} for outcome in failed]
    names = {
        "ids": [outcome.id for outcome in failed],
        "epochs": [outcome.epoch for outcome in failed],
        "codes": [str(error["code"]) for error in errors],
        "messages": [str(error["message"]) for error in errors],
        "worker": worker,
        "kept": KEPT,
    }
    cursor.execute(RECORD, names)
    cursor.execute(TRIM, names)


def history(cursor: Cursor, id: UUID) -> list[Attempt]:
    """The failed runs of a job that are remembered, the oldest first."""
    cursor.execute(OF_JOB, {"id": id})
    return [Attempt(*row) for row in cursor.fetchall()]
