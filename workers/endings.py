"""How the runs of a worker's jobs end: each job is settled once, and nobody searches it any more."""

from __future__ import annotations

import random
from collections.abc import Callable

from shunter.storage.job import Claim, Move
from shunter.storage.model_registry import ModelVersion
from shunter.storage.outcome import Outcome
from shunter.workers import retry
from shunter.workers.holdings import Held
from shunter.workers.inquest import Inquest


class Endings:
    """`settle` takes each job's outcome. Only the hub's own thread calls this."""

    def __init__(self, inquest: Inquest, settle: Callable[[Held, Outcome], None]) -> None:
        self._inquest = inquest
        self._settle = settle

    def end(self, held: Held, outcome: Outcome) -> None:
        """The job ends so."""
        self._inquest.forget(held)
        self._settle(held, outcome)

    def give_back(self, held: Held) -> None:
        """The job goes back to the queue as it was."""
        self.end(held, returned(held.claim))

    def end_run(self, held: Held, model: ModelVersion, outcome: Outcome) -> None:
        """A run of the job ends so; it may be tried again only so many times."""
        limited = retry.limit(
            outcome,
            attempts=held.job.attempts,
            max_attempts=model.config.run.max_attempts,
            rows=held.job.rows,
            chance=random.random(),
        )
        self.end(held, limited)

    def refuse(self, held: Held, model: ModelVersion, code: str, reason: str) -> None:
        """Another worker may be able to load its model: the job is tried again, a few times."""
        outcome = Outcome(
            id=held.job.id,
            epoch=held.job.epoch,
            move=Move.RETRY,
            error={"code": code, "message": reason},
            counts_attempt=True,
        )
        self.end_run(held, model, outcome)


def returned(claim: Claim) -> Outcome:
    """The outcome of a job that goes back to the queue as it was."""
    return Outcome(id=claim.id, epoch=claim.epoch, move=Move.RETURN)
