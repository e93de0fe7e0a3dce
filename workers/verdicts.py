"""What the death of an engine means for a row, and for a job; pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping

from shunter.storage.job import ClaimedJob
from shunter.storage.outcome import Outcome, RowFailure, failed
from shunter.workers.isolation import Failure

MAX_GUILTY_ROWS = 32
"""A job with more rows that kill engines than this fails as a whole: each costs a few engine starts."""


def of_row(reason: str, *, hangs: bool) -> Failure:
    """What a row is guilty of that was alone in the model when its engine died for `reason`."""
    code = "batch_timeout" if hangs else "engine_died"
    return Failure(code, f"{reason}, with this row alone in the model")


def ending(returncode: int) -> str:
    """How a process ended that nobody had asked to."""
    if returncode >= 0:
        return f"the engine ended with exit code {returncode}"
    try:
        return f"the engine was ended by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"the engine was ended by signal {-returncode}"


def of_deaths(job: ClaimedJob, deaths: int) -> Outcome:
    """A job whose engines kept dying, and no row of it could be found guilty."""
    message = f"the engine died {deaths} times while running this job, and no single row is to blame"
    return failed(job.id, job.epoch, code="engine_died", message=message, rows=job.rows)


def of_guilty_rows(job: ClaimedJob, guilty: Mapping[int, Failure]) -> Outcome | None:
    """The failure of a job of which no row is left to run, or too many are guilty; None if it goes on."""
    if len(guilty) < job.rows and len(guilty) <= MAX_GUILTY_ROWS:
        return None
    index, first = min(guilty.items())
    message = f"{len(guilty)} of {job.rows} rows each killed an engine; row {index}: {first.message}"
    outcome = failed(job.id, job.epoch, code="engine_died", message=message, rows=job.rows)
    if len(guilty) < job.rows:
        return outcome
    rows = sorted(guilty.items())
    return outcome._replace(failures=tuple(RowFailure(i, f.code, f.message) for i, f in rows))
