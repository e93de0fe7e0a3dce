"""Outcomes that Postgres refuses, beside others."""

from __future__ import annotations

from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any
from uuid import UUID, uuid4

import psycopg2

from shunter.storage.job import JobState, Move
from shunter.storage.outcome import Outcome
from shunter.storage.results import Blob
from shunter.storage.testing import InMemoryJobRepository
from shunter.workers.lists import Lists
from shunter.workers.settler import Settlement, Settler
from tests.stored_jobs import claim, insert

UNSPEAKABLE = b"unspeakable"


class PickyRepository(InMemoryJobRepository):
    """Refuses an output as Postgres refuses data that it cannot hold."""

    def settle(self, outcomes: Sequence[Outcome], *, worker: UUID) -> set[UUID]:
        if any(o.output is not None and o.output.inline == UNSPEAKABLE for o in outcomes):
            raise psycopg2.DataError("unspeakable")
        return super().settle(outcomes, worker=worker)


def test_an_outcome_that_postgres_refuses_fails_its_job_alone() -> None:
    repository, worker, mailbox = PickyRepository(), uuid4(), SimpleQueue[Any]()
    announced: list[Any] = []
    ids = [insert(repository) for _ in range(3)]
    claimed = claim(repository, *ids, worker=worker)
    settler = Settler(repository, Lists("redis://127.0.0.1:1/0"), mailbox.put, announce=announced.append)
    for number, job in enumerate(claimed):
        output = Blob(UNSPEAKABLE if number == 1 else b"fine", None)
        outcome = Outcome(
            id=job.id,
            epoch=job.epoch,
            move=Move.SUCCEED,
            state=JobState.SUCCEEDED,
            output=output,
            rows_succeeded=job.rows,
        )
        settler.settle([Settlement(outcome, worker)])
    settler.stop(10)
    assert [repository.get(job.id).state for job in claimed] == ["succeeded", "failed", "succeeded"]
    assert (repository.get(claimed[1].id).error or {})["code"] == "bad_outcome"
