"""A worker without a model: the pure batcher driven by a trace of jobs and a cost, in simulated time.

It answers what a worker would do with a load. As in an engine, one batch is in the model and one prefetched,
and no more than `held_rows` are claimed at a time.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from math import inf
from uuid import UUID

from shunter.storage.job import Claim, Priority
from shunter.storage.model_config import Batching
from shunter.workers.batch import Batch, Row
from shunter.workers.batcher import Batcher
from shunter.workers.room import class_rooms
from shunter.workers.simulation import Arrival, SimulatedJob, Simulation
from shunter.workers.sizing import Sizing

Cost = Callable[[Batch[SimulatedJob]], float]
"""How many seconds the model takes for a batch."""


def simulate(
    trace: Iterable[Arrival],
    limits: Batching,
    cost: Cost,
    *,
    held_rows: int | None = None,
    sizing: Sizing | None = None,
    way_s: float = 0.0,
) -> Simulation:
    """Run a trace to its end.

    `held_rows` bounds what is claimed, class by class, as a hub does (None: everything is). A `sizing` brings
    what is known of costs, and learns on; without one the sizes are learnt on the way. `way_s` is what a job
    takes besides, half of it from its submission to the batcher and half from its last batch to its result.
    """
    return _Worker(Batcher(limits, sizing), cost, held_rows, way_s / 2).run(trace)


def fitted(sizing: Sizing) -> Cost:
    """The cost that was learnt from real batches."""
    return lambda batch: sizing.seconds(batch.bucket, batch.work)


class _Worker:
    """The state of one simulation."""

    def __init__(
        self, batcher: Batcher[SimulatedJob], cost: Cost, held_rows: int | None, half_way_s: float
    ) -> None:
        self._batcher = batcher
        self._cost = cost
        self._held_rows = held_rows
        self._half_way_s = half_way_s
        self._held: Counter[Priority] = Counter()
        self._queues: dict[Priority, deque[SimulatedJob]] = {priority: deque() for priority in Priority}
        self._deadlines: list[tuple[float, int, SimulatedJob]] = []
        self._running: Batch[SimulatedJob] | None = None
        self._prefetched: Batch[SimulatedJob] | None = None
        self._began_at, self._free_at = 0.0, inf
        self._result = Simulation()

    def run(self, trace: Iterable[Arrival]) -> Simulation:
        arrivals = deque(trace)
        now = self._next_arrival(arrivals) if arrivals else 0.0
        while now < inf:
            while self._next_arrival(arrivals) <= now:
                self._arrive(arrivals.popleft())
            if self._free_at <= now:
                self._finish(now)
            self._expire(now)
            self._claim(now)
            self._fill(now)
            now = min(self._next_moment(now), self._next_arrival(arrivals))
        return self._result

    def _next_arrival(self, arrivals: deque[Arrival]) -> float:
        return arrivals[0].at_s + self._half_way_s if arrivals else inf

    def _arrive(self, arrival: Arrival) -> None:
        number = len(self._result.jobs)
        job = SimulatedJob(
            claim=Claim(UUID(int=number), 1),
            priority=arrival.priority,
            deadline=None if arrival.deadline_s is None else arrival.at_s + arrival.deadline_s,
            arrival=arrival,
            remaining=arrival.rows,
        )
        self._result.jobs.append(job)
        self._queues[job.priority].append(job)
        if job.deadline is not None:
            heappush(self._deadlines, (job.deadline, number, job))

    def _claim(self, now: float) -> None:
        for priority, queue in self._queues.items():
            while queue and (queue[0].expired or self._has_room(queue[0])):
                job = queue.popleft()
                if not job.expired:
                    self._held[priority] += job.remaining
                    lengths = job.arrival.lengths or [0] * job.arrival.rows
                    self._batcher.add(
                        Row(job, n, None, now, None, tokens) for n, tokens in enumerate(lengths)
                    )

    def _has_room(self, job: SimulatedJob) -> bool:
        if self._held_rows is None or not self._held[job.priority]:
            return True
        return class_rooms(self._held_rows, self._held)[job.priority].room >= job.arrival.rows

    def _expire(self, now: float) -> None:
        least_s = self._batcher.least_seconds()
        while self._deadlines and self._deadlines[0][0] - least_s <= now:
            _, _, job = heappop(self._deadlines)
            if not job.taken:
                job.expired = True
                self._held[job.priority] -= self._batcher.remove(job.claim)

    def _fill(self, now: float) -> None:
        if self._running is None:
            self._run(self._take(now, idle=True), now)
        if self._running is not None and self._prefetched is None:
            self._prefetched = self._take(now, idle=False)

    def _take(self, now: float, *, idle: bool) -> Batch[SimulatedJob] | None:
        batch = self._batcher.next_batch(now, idle=idle)
        for row in batch.rows if batch is not None else ():
            row.ticket.taken = True
        return batch

    def _run(self, batch: Batch[SimulatedJob] | None, now: float) -> None:
        self._running, self._free_at = batch, inf
        if batch is not None:
            seconds = self._cost(batch)
            self._began_at, self._free_at = now, now + seconds
            self._result.count(batch, seconds, now)

    def _finish(self, now: float) -> None:
        batch = self._running
        assert batch is not None
        self._batcher.measured(batch, now - self._began_at)
        self._result.ended_s = now + self._half_way_s
        for row in batch.rows:
            job = row.ticket
            job.remaining -= 1
            self._held[job.priority] -= 1
            if not job.remaining:
                job.finished_s = now + self._half_way_s
        prefetched, self._prefetched = self._prefetched, None
        if prefetched is not None:
            prefetched = self._batcher.overtake(prefetched, now) or prefetched
        self._run(prefetched, now)

    def _next_moment(self, now: float) -> float:
        closes = self._batcher.next_deadline(now)
        late = self._deadlines[0][0] - self._batcher.least_seconds() if self._deadlines else inf
        return min(self._free_at, inf if closes is None else closes, max(late, now))
