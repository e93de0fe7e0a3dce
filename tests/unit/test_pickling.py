"""What crosses the pipe comes out as it went in."""

from __future__ import annotations

import pickle
from uuid import uuid4

from shunter.storage.ids import new_id
from shunter.storage.job import Claim, ClaimedJob, Move, Priority
from shunter.storage.outcome import Outcome, RowFailure
from shunter.storage.results import Blob
from shunter.workers.messages import Drop, Finished, Probed, Run, ToEngine, ToHub
from shunter.workers.pickling import dumps, loads

JOB = ClaimedJob(
    id=new_id(),
    epoch=2,
    model="echo",
    version=1,
    rows=3,
    priority=Priority.BULK,
    attempts=1,
    deaths=0,
    deadline_in_s=1.5,
    queued_s=0.25,
    input=b"rows",
    input_key=None,
)

FAILURE = RowFailure(2, "killed", "this row kills engines")

DONE = Outcome(
    id=JOB.id,
    epoch=JOB.epoch,
    move=Move.SUCCEED,
    output=Blob(b"outputs", None),
    rows_succeeded=2,
    rows_failed=1,
    failures=(FAILURE,),
    forward_age_s=0.01,
)

FAILED = DONE._replace(move=Move.FAIL, output=None, error={"code": "bad", "message": "no row succeeded"})


def test_what_a_hub_says_comes_out_as_it_went_in() -> None:
    said: list[ToEngine] = [Run(JOB, (FAILURE,), ((2, 3),)), Run(JOB), Drop(Claim(uuid4(), 1))]
    heard = loads(dumps(said))
    assert heard == said
    assert (type(heard[0]), type(heard[0].job), type(heard[0].job.priority)) == (Run, ClaimedJob, Priority)


def test_what_an_engine_says_comes_out_as_it_went_in() -> None:
    said: list[ToHub] = [Finished((DONE, FAILED)), Probed()]
    heard = loads(dumps(said))
    assert heard == said
    assert [type(outcome) for outcome in heard[0].outcomes] == [Outcome, Outcome]


def test_ids_cost_little_more_than_their_bytes() -> None:
    jobs = [JOB._replace(id=new_id()) for _ in range(110)]
    few, many = (dumps([Run(job) for job in jobs[:count]]) for count in (10, 110))
    few_others, many_others = (pickle.dumps([job[1:] for job in jobs[:count]]) for count in (10, 110))
    others = len(many_others) - len(few_others)
    assert len(many) - len(few) - others < 100 * 30
