"""An engine room with real engines: many models and memory for few, and models that are too large."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import psutil
import pytest

from shunter.storage.job import ClaimedJob, JobState, Move
from shunter.storage.model_registry import describe
from shunter.storage.outcome import Outcome
from shunter.workers.engine_handle import EngineGone, EngineMail
from shunter.workers.engine_room import EngineRoom
from shunter.workers.holdings import MIN_BATCHES, Held, Holdings, ModelKey
from shunter.workers.meter import Meter, resident_memory
from shunter.workers.places import Places
from tests.engine_process import GATED, job_of, outputs_of, write_model
from tests.waiting import wait_until

MIB = 2**20
BALLAST = 150 * MIB
PATIENCE_S = 60.0

LOAD_BALLAST = f"""def load(self, directory, device, **params):
            self.ballast = bytearray({BALLAST})
            self.ballast[::4096] = b"1" * len(self.ballast[::4096])"""

HEAVY = f"""
    class Model:
        {LOAD_BALLAST}

        def forward(self, rows):
            return [row + 1 for row in rows]
"""

HEAVY_AND_GATED = GATED.replace("def load(self, directory, device, **params):", LOAD_BALLAST)


class Room:
    """A room, the hub's loop around it, and what was settled."""

    def __init__(self, models: Path, *, budget: int | None) -> None:
        found = [describe(path) for path in sorted(models.glob("*/1"))]
        self.models = {(model.name, model.version): model for model in found}
        self.holdings = Holdings()
        self.mailbox: SimpleQueue[EngineMail] = SimpleQueue()
        self.settled: list[Outcome] = []
        self.most_engines = 0
        self.meter = Meter(resident_memory, 0.05)
        self.places = Places(self.meter, budget=budget)
        self.room = EngineRoom(
            models=self.models,
            holdings=self.holdings,
            device="cpu",
            object_store=(models / "objects").as_uri(),
            mailbox=self.mailbox.put,
            settle=self._settle,
            accuse=lambda claims: None,
            remember=lambda key, ceiling: None,
            places=self.places,
        )

    def take(self, job: ClaimedJob) -> None:
        self.room.hand_over([self.holdings.add(job)])

    def turn(self) -> None:
        """One round of a hub."""
        while not self.mailbox.empty():
            mail = self.mailbox.get()
            if isinstance(mail, EngineGone):
                self.room.gone(mail)
            else:
                for message in mail.messages:
                    self.room.heard(mail.engine, message)
        self.room.arrange(time.monotonic())
        self.room.flush()
        self.most_engines = max(self.most_engines, len(self.engines()))

    def until_settled(self, count: int) -> list[Outcome]:
        self.until(lambda: len(self.settled) >= count)
        return self.settled

    def until(self, predicate: Callable[[], bool]) -> None:
        """Turn round until something is so."""

        def is_so() -> bool:
            self.turn()
            return predicate()

        wait_until(is_so, PATIENCE_S)

    def state(self, name: str) -> str:
        return next(serving.state for serving in self.room.serving() if serving.model == name)

    def loads(self) -> dict[ModelKey, int]:
        return {key: self.places.loads(key) for key in self.models}

    def engines(self) -> list[psutil.Process]:
        children = psutil.Process().children()
        return [child for child in children if "shunter.workers.engine" in _command(child)]

    def close(self) -> None:
        self.room.stop()
        self.room.flush()
        self.room.kill("the test ends")
        self.until(lambda: self.room.empty)
        self.meter.stop()

    def _settle(self, held: Held, outcome: Outcome) -> None:
        held.finished = True
        self.settled.append(outcome)
        self.holdings.remove(held.job.id)


def _command(process: psutil.Process) -> list[str]:
    """Its command line; empty once it has ended."""
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


@pytest.fixture
def rooms() -> Iterator[list[Room]]:
    opened: list[Room] = []
    yield opened
    for room in opened:
        room.close()


def test_many_models_take_turns_in_memory_for_few(tmp_path: Path, rooms: list[Room]) -> None:
    names = [f"m{number}" for number in range(5)]
    for name in names:
        write_model(tmp_path, HEAVY, name=name)
    rooms.append(room := Room(tmp_path, budget=3 * BALLAST))
    jobs = [job_of([1, 2], model=name) for name in names for _ in range(2)]
    for job in jobs:
        room.take(job)
    outcomes = room.until_settled(len(jobs))
    assert {outcome.id for outcome in outcomes} == {job.id for job in jobs}
    assert all(outputs_of(outcome) == [2, 3] for outcome in outcomes)
    assert room.most_engines <= 2
    assert set(room.loads().values()) == {1}
    assert all((room.places.measured(key) or 0) > BALLAST for key in list(room.models)[:4])


def test_a_busy_engine_that_has_had_its_turn_makes_room_and_gives_back_what_it_has_not_begun(
    tmp_path: Path, rooms: list[Room]
) -> None:
    gated = write_model(tmp_path, HEAVY_AND_GATED, name="gated", config="[batching]\nmax_rows = 1")
    write_model(tmp_path, HEAVY, name="other")
    # Room for one of them, before its size is known and afterwards.
    rooms.append(room := Room(tmp_path, budget=2 * BALLAST))
    begun, waiting, other = job_of([1], model="gated"), job_of([2], model="gated"), job_of([3], model="other")
    for job in (begun, waiting, other):
        room.take(job)
    room.until((gated / "inside").exists)
    assert room.state("other") == "waiting_for_memory"
    assert room.room.held(("gated", 1))[0] == MIN_BATCHES
    assert room.room.held(("other", 1))[0] == 256, "one batch, while it waits"
    room.until(lambda: room.state("gated") == "unloading")
    late = job_of([4], model="gated")
    room.take(late)
    (gated / "gate").touch()
    outcomes = {outcome.id: outcome.move for outcome in room.until_settled(3)}
    assert outcomes[begun.id] is Move.SUCCEED
    assert {outcomes[job.id] for job in (waiting, late)} <= {Move.SUCCEED, Move.RETURN}
    assert outcomes[late.id] is Move.RETURN
    assert room.until_settled(4)[-1].move is Move.SUCCEED
    assert room.loads() == {("gated", 1): 1, ("other", 1): 1}
    assert room.most_engines == 1


def test_a_model_that_is_too_large_fails_alone_and_names_both_figures(
    tmp_path: Path, rooms: list[Room]
) -> None:
    write_model(tmp_path, HEAVY, name="large", config="[run]\nmax_attempts = 1")
    write_model(tmp_path, GATED, name="small")
    (tmp_path / "small" / "1" / "gate").touch()
    rooms.append(room := Room(tmp_path, budget=100 * MIB))
    large, small = job_of([1], model="large"), job_of([1], model="small")
    for job in (large, small):
        room.take(job)
    outcomes = {outcome.id: outcome for outcome in room.until_settled(2)}
    assert outcomes[small.id].state is JobState.SUCCEEDED
    error = outcomes[large.id].error
    assert outcomes[large.id].state is JobState.FAILED
    assert error is not None
    assert error["code"] == "model_too_large"
    assert "--memory allows 100 MiB" in error["message"]
    room.take(again := job_of([1], model="large"))
    assert room.settled[-1].id == again.id, "it is not loaded a second time to find that out"
    assert room.state("large") == "failed"


def test_what_waits_for_memory_goes_back_when_the_worker_ends(tmp_path: Path, rooms: list[Room]) -> None:
    for name in ("gated", "other"):
        write_model(tmp_path, GATED, name=name)
    rooms.append(room := Room(tmp_path, budget=60 * MIB))
    running, waiting = job_of([1], model="gated"), job_of([1], model="other")
    for job in (running, waiting):
        room.take(job)
    room.turn()
    room.room.stop()
    assert [(outcome.id, outcome.move) for outcome in room.settled] == [(waiting.id, Move.RETURN)]


def test_a_withdrawn_model_gives_back_its_jobs_and_takes_no_more(tmp_path: Path, rooms: list[Room]) -> None:
    write_model(tmp_path, GATED, name="gone")
    rooms.append(room := Room(tmp_path, budget=None))
    room.take(begun := job_of([1], model="gone"))
    room.until((tmp_path / "gone" / "1" / "inside").exists)
    del room.models["gone", 1]
    room.room.withdraw(("gone", 1))
    room.take(late := job_of([2], model="gone"))
    assert [(outcome.id, outcome.move) for outcome in room.settled] == [(late.id, Move.RETURN)]
    (tmp_path / "gone" / "1" / "gate").touch()
    assert room.until_settled(2)[1].id == begun.id
    assert room.settled[1].move is Move.SUCCEED
