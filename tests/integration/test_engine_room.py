"""A hub's engines with real processes: who is found guilty when they die, and what the others suffer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from shunter.storage.ceiling import Ceiling, RaisedCeiling
from shunter.storage.job import Claim, ClaimedJob, JobState
from shunter.storage.model_registry import scan
from shunter.storage.outcome import Outcome
from shunter.workers.engine_handle import EngineGone, EngineMail, FromEngine
from shunter.workers.engine_room import EngineRoom
from shunter.workers.holdings import Held, Holdings, ModelKey
from shunter.workers.meter import Meter, resident_memory
from shunter.workers.places import Places
from shunter.workers.retry import MAX_DEATHS
from tests.engine_process import PATIENCE_S, claim_of, job_of, outputs_of, write_model
from tests.waiting import wait_until

MORTAL = """
import os
import signal
import time
from pathlib import Path

class Model:
    def load(self, directory, device):
        self.once = directory / "once"
        with (directory / "starts").open("a") as file:
            file.write("start\\n")

    def preprocess(self, row):
        if row == "early":
            signal.raise_signal(signal.SIGSEGV)
        return row

    def forward(self, rows):
        if "die" in rows or ("once" in rows and not self.once.exists()):
            self.once.touch()
            signal.raise_signal(signal.SIGSEGV)
        if len(rows) > 6 and "crowd" in rows:
            os._exit(77)
        if len(rows) > 4 and "vast" in rows:
            raise MemoryError
        while "hang" in rows:
            time.sleep(1)
        return rows

    def postprocess(self, output):
        if output == "late":
            signal.raise_signal(signal.SIGSEGV)
        return output
"""


class Room:
    """An engine room and what it says."""

    def __init__(self, models: Path) -> None:
        self.mailbox: SimpleQueue[EngineMail] = SimpleQueue()
        self.holdings = Holdings()
        self.outcomes: dict[Claim, Outcome] = {}
        self.accused: list[Claim] = []
        self.remembered: list[tuple[ModelKey, Ceiling | RaisedCeiling]] = []
        self.meter = Meter(resident_memory, 0.05)
        self.starts = models / "tiny" / "1" / "starts"
        self.room = EngineRoom(
            models={(model.name, model.version): model for model in scan(models).versions},
            holdings=self.holdings,
            device="cpu",
            object_store=(models / "objects").absolute().as_uri(),
            mailbox=self.mailbox.put,
            settle=self._settle,
            accuse=self.accused.extend,
            remember=lambda key, ceiling: self.remembered.append((key, ceiling)),
            places=Places(self.meter),
        )

    def run(self, *jobs: ClaimedJob) -> list[Outcome]:
        """The outcomes of some jobs, in their order."""
        for job in jobs:
            self.room.hand_over([self.holdings.add(job)])
        deadline = time.monotonic() + PATIENCE_S
        while not all(claim_of(job) in self.outcomes for job in jobs):
            assert time.monotonic() < deadline, f"{len(self.outcomes)} of {len(jobs)} jobs are done"
            self.room.arrange(time.monotonic())
            self.room.flush()
            self._step()
        return [self.outcomes[claim_of(job)] for job in jobs]

    def engines(self) -> int:
        """How many were started."""
        return len(self.starts.read_text().splitlines())

    def close(self) -> None:
        """End every engine."""
        self.room.kill("the test is over")
        while not self.room.empty:
            self._step()
        self.meter.stop()

    def _step(self) -> None:
        try:
            mail = self.mailbox.get(timeout=0.1)
        except Empty:
            self.room.kill_overdue(time.monotonic())
            return
        if isinstance(mail, FromEngine):
            for message in mail.messages:
                self.room.heard(mail.engine, message)
        elif isinstance(mail, EngineGone):
            self.room.gone(mail)

    def _settle(self, held: Held, outcome: Outcome) -> None:
        assert held.claim not in self.outcomes, "an outcome came twice"
        held.finished = True
        self.outcomes[held.claim] = outcome


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    write_model(tmp_path, MORTAL, config="[run]\nbatch_timeout_s = 1\n[batching]\nmax_rows = 256")
    room = Room(tmp_path)
    yield room
    room.close()


def with_bad(count: int, bad: dict[int, str]) -> list[Any]:
    return [bad.get(index, index) for index in range(count)]


def failures(outcome: Outcome) -> list[tuple[int, str]]:
    return [(failure.index, failure.code) for failure in outcome.failures]


def test_three_rows_that_crash_among_256_fail_alone_and_cost_few_engines(room: Room) -> None:
    rows = with_bad(256, {7: "die", 100: "early", 250: "late"})
    poisoned, innocent = room.run(job_of(rows), job_of([1, 2, 3]))
    assert failures(poisoned) == [(7, "engine_died"), (100, "engine_died"), (250, "engine_died")]
    assert outputs_of(poisoned) == [row if isinstance(row, int) else None for row in rows]
    assert (poisoned.state, outputs_of(innocent)) == (JobState.SUCCEEDED, [1, 2, 3])
    assert room.engines() - 1 <= 3 * 3
    assert len(room.accused) == len(set(room.accused)), "Postgres is told once"


def test_a_row_that_hangs_fails_alone_and_says_why(room: Room) -> None:
    (poisoned,) = room.run(job_of(with_bad(64, {33: "hang"})))
    assert failures(poisoned) == [(33, "batch_timeout")]
    assert "batch_timeout_s" in poisoned.failures[0].message
    assert poisoned.rows_succeeded == 63


def test_a_guilty_row_among_many_single_ones_fails_only_its_job(room: Room) -> None:
    guilty, *others = room.run(job_of(["die"]), *(job_of([number]) for number in range(64)))
    assert (guilty.state, (guilty.error or {})["code"]) == (JobState.FAILED, "engine_died")
    assert failures(guilty) == [(0, "engine_died")]
    assert [outputs_of(other) for other in others] == [[number] for number in range(64)]
    assert room.engines() - 1 <= 3


def test_a_death_that_does_not_come_again_fails_nobody(room: Room) -> None:
    (outcome,) = room.run(job_of(with_bad(64, {5: "once"})))
    assert (outcome.state, outcome.rows_failed) == (JobState.SUCCEEDED, 0)
    assert room.engines() == 2


def test_a_crash_that_takes_a_large_batch_fails_nobody(room: Room) -> None:
    crowd, other = room.run(job_of(["crowd"] * 12), job_of([1]))
    assert (crowd.state, crowd.rows_failed) == (JobState.SUCCEEDED, 0)
    assert outputs_of(other) == [1]


def test_a_job_that_was_in_too_many_dying_hubs_is_not_tried_again(room: Room) -> None:
    (outcome,) = room.run(job_of([1], deaths=MAX_DEATHS))
    assert (outcome.error or {})["code"] == "engine_died"
    assert not room.starts.exists()


def test_what_does_not_fit_is_remembered_and_told_to_the_next_engine(room: Room) -> None:
    full, _ = room.run(job_of(["vast"] * 256), job_of(["once"]))
    assert full.state is JobState.SUCCEEDED
    ((key, ceiling),) = room.remembered
    assert isinstance(ceiling, Ceiling)
    assert (key, ceiling.rows) == (("tiny", 1), 4)
    again, _ = room.run(job_of(["vast"] * 256), job_of(["die"]))
    assert again.state is JobState.SUCCEEDED
    assert len(room.remembered) == 1


def test_a_worker_may_hold_more_of_a_model_the_faster_it_gets_through_it(room: Room) -> None:
    key = ("tiny", 1)
    assert room.room.held(key)[0] == 256, "without an engine one batch"
    room.run(job_of([0]))
    assert room.room.held(key)[0] == 2 * 256, "before anything is measured"
    room.holdings.add(job_of([0]))

    def holds_more() -> bool:
        for outcome in room.run(*(job_of([0] * 256) for _ in range(8))):
            room.holdings.remove(outcome.id)
        return room.room.held(key)[0] > 2 * 256

    wait_until(holds_more, PATIENCE_S)
