"""Any order of fetching, claiming, settling, dying and forgetting: at the end each job has one result."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import redis
from hypothesis import HealthCheck
from hypothesis import settings as bounds
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from shunter.storage.database import Database
from shunter.storage.envelope import Due, pack, queue_name
from shunter.storage.job import TERMINAL_STATES, ClaimedJob, JobState, Move, Priority
from shunter.storage.job_repair import JobRepair
from shunter.storage.job_repository import JobRepository
from shunter.storage.model_registry import ModelRegistry
from shunter.storage.worker_registry import WorkerRegistry
from shunter.workers.intake import read
from shunter.workers.lists import Bunch, Lists
from shunter.workers.relay import SETTLE_IN_S, Relay
from shunter.workers.rescuer import Rescuer
from shunter.workers.room import ClassRoom
from tests.fake_worker import model_version
from tests.stored_jobs import SERVED, new_job, new_worker, outcome

MODEL = SERVED[0][0]
ROOM = {queue_name(MODEL): dict.fromkeys(Priority, ClassRoom(3, 0))}
HUBS = 2
ROUNDS_TO_HEAL = 60

hubs = st.integers(0, HUBS - 1)
moves = st.sampled_from([Move.SUCCEED, Move.SUCCEED, Move.FAIL, Move.RETURN, Move.RETRY])


@dataclass
class Hub:
    """What a hub has in its hands."""

    incarnation: UUID
    popped: list[Bunch] = field(default_factory=list)
    unacked: list[Bunch] = field(default_factory=list)
    claimed: list[ClaimedJob] = field(default_factory=list)


class Transport(RuleBasedStateMachine):
    """The real repository, lists, relay and rescuer; the test is the hubs, the clock and the misfortune."""

    database: Database
    redis_url: str

    @initialize()
    def begin(self) -> None:
        with self.database.transaction() as cursor:
            cursor.execute("TRUNCATE jobs, workers")
        with redis.Redis.from_url(self.redis_url) as client:
            client.flushdb()
        self.now = 0.0
        self.repository, self.registry = JobRepository(self.database), WorkerRegistry(self.database)
        self.lists = Lists(self.redis_url)
        repair = JobRepair(self.database)
        self.relay = Relay(repair, self.lists, clock=lambda: self.now)
        self.rescuer = Rescuer(repair, self.registry, self.lists, lambda _: None, clock=lambda: self.now)
        self.hubs = [Hub(self._register()) for _ in range(HUBS)]
        self.late: list[tuple[UUID, ClaimedJob]] = []
        self.jobs: dict[UUID, Priority] = {}
        self.ended: Counter[UUID] = Counter()
        self.cancelled: set[UUID] = set()

    @rule(count=st.integers(1, 4), priority=st.sampled_from(Priority), published=st.booleans())
    def submit(self, count: int, priority: Priority, published: bool) -> None:
        jobs = [new_job(model=MODEL, priority=priority) for _ in range(count)]
        enqueued_at = self.repository.insert(jobs)
        self.jobs.update({job.id: priority for job in jobs})
        if published:
            due = [Due(job.id, job.model, job.version, job.rows, job.priority) for job in jobs]
            self.lists.push(pack(due, enqueued_at.timestamp()))

    @rule(choice=st.randoms(use_true_random=False))
    def push_again(self, choice: random.Random) -> None:
        if self.jobs:
            id = choice.choice(list(self.jobs))
            due = Due(id, MODEL, 1, 1, self.jobs[id])
            self.lists.push(pack([due], self.repository.get(id).enqueued_at.timestamp()))

    @rule(number=hubs)
    def fetch(self, number: int) -> None:
        bunch = self.lists.fetch(ROOM)
        if bunch is not None:
            self.hubs[number].popped.append(bunch)

    @rule(number=hubs)
    def claim(self, number: int) -> None:
        hub = self.hubs[number]
        if hub.popped:
            bunch = hub.popped.pop(0)
            hints = {id: envelope.id for envelope in read(bunch).envelopes for id in envelope.ids}
            hub.claimed += self.repository.claim(hints, worker=hub.incarnation, served=SERVED)
            hub.unacked.append(bunch)

    @rule(number=hubs)
    def ack(self, number: int) -> None:
        self.lists.fetch({}, self.hubs[number].unacked)
        self.hubs[number].unacked = []

    @rule(number=hubs)
    def refuse(self, number: int) -> None:
        self.lists.give_back(self.hubs[number].popped)
        self.hubs[number].popped = []

    @rule(number=hubs, move=moves)
    def settle(self, number: int, move: Move) -> None:
        hub = self.hubs[number]
        if hub.claimed:
            job = hub.claimed.pop(0)
            self._settle(hub.incarnation, job, move)
            self.late.append((hub.incarnation, job))

    @rule(move=moves)
    def settle_late(self, move: Move) -> None:
        """What is settled already, or belongs to another by now, is refused."""
        for worker, job in self.late:
            assert self.repository.settle([outcome(job, move)], worker=worker) == set()

    @rule(choice=st.randoms(use_true_random=False))
    def cancel(self, choice: random.Random) -> None:
        queued = [id for id, state in self._states().items() if state is JobState.QUEUED]
        if queued:
            id = choice.choice(sorted(queued))
            self.repository.cancel(id)
            self.cancelled.add(id)

    @rule(number=hubs)
    def die(self, number: int) -> None:
        """Nothing is acked, nothing given back; the fleet has noticed."""
        hub = self.hubs[number]
        self.registry.end([hub.incarnation])
        self.rescuer.run_once()
        self.late += [(hub.incarnation, job) for job in hub.claimed]
        self.hubs[number] = Hub(self._register())

    @rule()
    def forget(self) -> None:
        """Redis loses everything."""
        with redis.Redis.from_url(self.redis_url) as client:
            client.flushdb()

    @rule()
    def give_back_stale(self) -> None:
        self.lists.give_back_stale(after_s=0)

    @rule(seconds=st.floats(0.0, 1.5 * SETTLE_IN_S))
    def look_after(self, seconds: float) -> None:
        self._pass(seconds)

    @invariant()
    def nothing_ends_twice(self) -> None:
        if hasattr(self, "ended"):
            assert all(count == 1 for count in self.ended.values())

    def teardown(self) -> None:
        if hasattr(self, "lists"):
            with closing(self.lists):
                self._heal()

    def _heal(self) -> None:
        for _ in range(ROUNDS_TO_HEAL):
            if all(state in TERMINAL_STATES for state in self._states().values()):
                break
            self._pass(SETTLE_IN_S)
            self.lists.give_back_stale(after_s=0)
            for number in range(HUBS):
                self.fetch(number)
                while self.hubs[number].popped:
                    self.claim(number)
                while self.hubs[number].claimed:
                    self.settle(number, Move.SUCCEED)
                self.ack(number)
        states = self._states()
        assert states.keys() == self.jobs.keys()
        assert {id for id, state in states.items() if state is JobState.CANCELLED} == self.cancelled
        assert {id: self.ended[id] for id in states} == {id: int(id not in self.cancelled) for id in states}

    def _settle(self, worker: UUID, job: ClaimedJob, move: Move) -> None:
        written = self.repository.settle([outcome(job, move)], worker=worker)
        # The claims of the living hold: nobody else may have taken the job.
        assert written == {job.id}
        if move in (Move.SUCCEED, Move.FAIL):
            self.ended[job.id] += 1

    def _states(self) -> dict[UUID, JobState]:
        return self.repository.states(self.jobs)

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        for hub in self.hubs:
            assert self.registry.beat(hub.incarnation, state="ready", serves=(), stats={})
        self.relay.run_once()
        self.rescuer.run_once()

    def _register(self) -> UUID:
        worker = new_worker(incarnation=uuid4())
        self.registry.register(worker)
        return worker.incarnation


@contextmanager
def connected(url: str) -> Iterator[Database]:
    database = Database(url)
    try:
        yield database
    finally:
        database.close()


def test_whatever_happens_each_job_ends_once(database_url: str, redis_url: str) -> None:
    with connected(database_url) as database:
        ModelRegistry(database).register([model_version(MODEL, 1)])

        class Case(Transport):
            pass

        Case.database, Case.redis_url = database, redis_url
        run_state_machine_as_test(
            Case,
            settings=bounds(
                max_examples=15,
                stateful_step_count=30,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
