"""What crosses the pipe comes out as it went in."""

from __future__ import annotations

import pickle
from uuid import uuid4

from shunter.storage.ids import new_id
from shunter.storage.job import Claim, JobState, Move
from shunter.storage.outcome import Outcome
from shunter.workers.messages import Drop, Finished
from shunter.workers.pickling import dumps


def test_messages_come_out_as_they_went_in() -> None:
    done = Outcome(id=new_id(), epoch=3, move=Move.SUCCEED, state=JobState.SUCCEEDED, rows_succeeded=1)
    for message in (Finished((done, done)), [Drop(Claim(uuid4(), 1))]):
        assert pickle.loads(dumps(message)) == message


def test_ids_cost_little_more_than_their_bytes() -> None:
    few, many = ([uuid4() for _ in range(count)] for count in (10, 110))
    assert len(dumps(many)) - len(dumps(few)) < 100 * 30
