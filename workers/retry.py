"""Whether a job may run again, and when: pure arithmetic."""

from __future__ import annotations

from shunter.storage.job import Move
from shunter.storage.outcome import Outcome

BASE_S = 1.0
FACTOR = 2.0
CEILING_S = 300.0
JITTER = 0.25
"""A wait is lengthened by up to this share of itself, so that retries do not come in step."""

MAX_DEATHS = 5
"""After so many engines died with a job in their hands and no row was found guilty of it, the job fails."""


def backoff_s(attempts: int, *, at_least_s: float = 0.0, chance: float = 0.0) -> float:
    """Seconds to wait after `attempts` failed runs; `chance` in [0, 1) spreads the waits."""
    wait = min(BASE_S * FACTOR ** max(attempts - 1, 0), CEILING_S)
    return max(wait, at_least_s) * (1 + JITTER * chance)


def limit(outcome: Outcome, *, attempts: int, max_attempts: int, rows: int, chance: float) -> Outcome:
    """The outcome itself, or for a retry either its wait or, when attempts ran out, the failure."""
    if outcome.move is not Move.RETRY:
        return outcome
    if not outcome.counts_attempt:
        # A service was out: that is no fault of the job, which goes on when it is back.
        return outcome._replace(retry_in_s=outcome.retry_in_s * (1 + JITTER * chance))
    tried = attempts + 1
    if tried < max_attempts:
        return outcome._replace(
            retry_in_s=backoff_s(tried, at_least_s=outcome.retry_in_s, chance=chance),
        )
    error = outcome.error or {"code": "transient", "message": "the model asked to be tried again"}
    message = f"gave up after {tried} attempts; the last one: {error['message']}"
    return outcome._replace(
        move=Move.FAIL,
        retry_in_s=0.0,
        rows_failed=rows,
        error={**error, "message": message},
    )
