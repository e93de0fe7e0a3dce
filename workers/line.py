"""What an engine has in hand, shared by its threads: arriving jobs, the batcher, and batches under way."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import Any

from shunter.storage.ceiling import Ceiling, RaisedCeiling
from shunter.storage.job import Claim, Priority
from shunter.workers.assembly import JobRun
from shunter.workers.batch import TICKET, Batch, CloseReason, Row, Timing
from shunter.workers.batcher import Batcher
from shunter.workers.messages import Probe, Run
from shunter.workers.spans import rows_of

OVERLAP = 2
"""One batch in the model, and exactly one prefetched."""

AHEAD_BUNCHES, LEAST_AHEAD_ROWS = 2, 512
"""So much of a large job may be preprocessed and wait: what batches are chosen from, and no more memory."""

AHEAD_BYTES = 128 << 20
"""No more rows are fetched, or preprocessed of large jobs, while those waiting for the model take so much;
only what was fetched is measured, and the rows of models with `max_bytes`."""


@dataclass(frozen=True, slots=True)
class Late:
    """Jobs whose deadline passed in line, or that even the fastest batch would finish too late."""

    runs: Sequence[JobRun]


class Line:
    """Jobs go in, batches come out. Every method may be called from any thread.

    The rows of a probe are never preprocessed, forwarded or postprocessed beside anything else: if
    the process dies meanwhile, one of them is to blame. A probe waits its turn among the arrivals, so
    that other jobs have theirs.
    """

    def __init__(
        self,
        batcher: Batcher[JobRun],
        *,
        bunch_rows: int,
        ahead_bytes: int = AHEAD_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._batcher = batcher
        self._bunch_rows = bunch_rows
        self._ahead_rows = max(AHEAD_BUNCHES * bunch_rows, LEAST_AHEAD_ROWS)
        self._ahead_bytes = ahead_bytes
        self._clock = clock
        # One lock, but a bell for each thread: being woken for nothing costs more than the work itself.
        self._lock = threading.Lock()
        self._for_intake = threading.Condition(self._lock)
        self._for_batches = threading.Condition(self._lock)
        self._runs: dict[Claim, JobRun] = {}
        self._arrived: deque[JobRun | Probe] = deque()
        self._deadlines: list[tuple[float, int, JobRun]] = []
        self._probing = False
        self._probe_batches: deque[Batch[JobRun]] = deque()
        self._preprocessing = False
        self._awaiting_room = self._rest = False
        self._forwarding = 0
        self._prefetched: deque[Batch[JobRun]] = deque()
        self._unfinished = 0
        self._stopping = False

    def accept(self, messages: Sequence[Run], *, quick: bool = False) -> list[JobRun]:
        """Jobs arrive. The caller has to put those in line that are returned: `quick` ones of an idle engine.

        It spares the thread that waits in `next_work` being woken. `batch_if_idle` must follow.
        """
        now = self._clock()
        runs = [JobRun(message, now=now) for message in messages]
        with self._lock:
            if self._stopping:
                return []
            self._runs.update((run.claim, run) for run in runs)
            for run in runs:
                if run.deadline is not None:
                    heappush(self._deadlines, (run.deadline, id(run), run))
                    self._for_batches.notify()
            # Nobody but the caller brings arrivals, so the other thread goes on waiting.
            if quick and self._awaits_arrivals and not self._forwarding:
                self._preprocessing = True
                return runs
            self._arrived += runs
            self._for_intake.notify()
            return []

    def accept_probe(self, probe: Probe) -> None:
        """Withheld rows are to be tried."""
        with self._lock:
            self._arrived.append(probe)
            self._for_intake.notify()

    def drop(self, claim: Claim) -> None:
        """Forget a job, wherever it is; what is in the model is discarded afterwards."""
        with self._lock:
            run = self._runs.pop(claim, None)
            if run is not None:
                self._end(run)

    def stop(self) -> None:
        """Leave the jobs of which nothing has reached the model, or not all may; finish the others."""
        with self._lock:
            self._stopping = True
            for run in [r for r in self._runs.values() if not r.ended and (r.withheld or not r.taken)]:
                del self._runs[run.claim]
                self._end(run)
            self._batcher.drain()
            self._for_batches.notify()

    def next_work(self, *, rest: bool = False) -> list[JobRun] | Probe | None:
        """Wait for what to preprocess next: a bunch of small jobs, a large one, or a probe.

        With a `rest` of a large job still to be preprocessed, other large jobs wait, and None is the answer
        once there is room for more of it. A large bulk job also waits while as many rows as it has are in
        line: of a scoring's chunks two are in memory. A probe is given out once nothing else is in the
        model's hands, and nothing comes into them until `end_probe`.
        """
        with self._lock:
            if self._arrival(beside_rest=rest) is None:
                self._for_batches.notify()
            self._preprocessing = False
            self._awaiting_room, self._rest = True, rest
            self._for_intake.wait_for(self._may_go_on)
            self._awaiting_room = False
            place = self._arrival(beside_rest=rest)
            if place is None:
                self._preprocessing = True
                return None
            first = self._arrived[place]
            del self._arrived[place]
            if isinstance(first, Probe):
                self._probing = True
                self._for_intake.wait_for(lambda: not self._unfinished)
                return first
            self._preprocessing = True
            return [first, *self._beside(first, place)]

    def is_large(self, rows: int) -> bool:
        """Whether a job is preprocessed no faster than the model takes it."""
        return rows > self._ahead_rows

    def has_room(self) -> bool:
        """Whether more of a large job may be preprocessed now."""
        with self._lock:
            return self._has_room()

    def suspects(self, probe: Probe) -> list[tuple[JobRun, int, Any]]:
        """The rows of a probe that are still wanted, with their values."""
        with self._lock:
            runs = [(self._runs.get(claim), index) for claim, index in rows_of(probe.spans)]
            wanted = [(run, index) for run, index in runs if run is not None and index in run.withheld]
            return [(run, index, run.withheld.pop(index)) for run, index in wanted if not run.ended]

    def wait_for_probe(self) -> None:
        """Wait until the rows of the probe have left the model."""
        with self._lock:
            self._for_intake.wait_for(lambda: not (self._probe_batches or self._unfinished))

    def end_probe(self) -> None:
        """Let the others in again."""
        with self._lock:
            self._probing = False
            self._for_batches.notify()

    def add(self, rows: Sequence[Row[JobRun]]) -> None:
        """Put preprocessed rows in line."""
        with self._lock:
            if self._probing:
                self._probe_batches += self._batcher.apart(rows, self._clock())
                self._for_batches.notify()
                return
            waiting = len(self._batcher)
            ended = any(run.ended for run in set(map(TICKET, rows)))
            self._batcher.add([row for row in rows if not row.ticket.ended] if ended else rows)
            # Between the first row and a full batch, `next_work` says when nothing more is coming, and an
            # idle model is given its batch by `batch_if_idle`.
            first = not waiting and (self._forwarding or self._arrived)
            if first or waiting + len(rows) >= self._bunch_rows or self._crowded():
                self._for_batches.notify()

    def next_batch(self) -> Batch[JobRun] | Late | None:
        """Wait for the batch to run next; None when the engine has stopped and nothing is in hand.

        Jobs that are late are told at once, whoever's turn it is: they shall cost no batch.
        """
        with self._lock:
            while not (self._stopping and not self._runs):
                now = self._clock()
                late = self._late(now)
                if late:
                    return Late(late)
                batch = self._try_batch(now)
                if batch is not None:
                    self._start(batch)
                    return batch
                moment = self._next_moment(now)
                self._for_batches.wait(None if moment is None else max(0.0, moment - now))
            return None

    def batch_if_idle(self) -> Batch[JobRun] | None:
        """The batch to run next, if the model has nothing in its hands, after rows were put in line.

        It spares the thread that waits in `next_batch` being woken.
        """
        with self._lock:
            self._preprocessing = False
            if self._forwarding:
                if not self._arrived:
                    self._for_batches.notify()
                return None
            # Who may be late is looked after by the other thread, before any batch.
            left = self._probing or self._stopping or self._deadlines
            batch = None if left else self._try_batch(self._clock())
            if batch is not None:
                self._start(batch)
            if len(self._batcher):
                self._for_batches.notify()
            return batch

    def overtake(self, batch: Batch[JobRun]) -> Batch[JobRun] | None:
        """The batch to run instead of one that was prefetched, if more urgent rows have come since."""
        with self._lock:
            nobody = not self._batcher.holds_urgent(batch.closed_at)
            if self._probing or nobody or batch.reason is CloseReason.ALONE:
                return None
            alive = [row for row in batch.rows if not row.ticket.ended]
            if not alive:
                return None
            urgent = self._batcher.overtake(replace(batch, rows=alive), self._clock())
            for row in urgent.rows if urgent is not None else ():
                row.ticket.taken = True
            return urgent

    def begun(self) -> None:
        """The batch that was prefetched first goes into the model: it cannot be overtaken any more."""
        with self._lock:
            self._prefetched.popleft()
            if self._forwarding < OVERLAP and len(self._batcher):
                self._for_batches.notify()

    def measured(self, batch: Batch[JobRun], seconds: float) -> RaisedCeiling | None:
        """A batch went through the model whole, in so many seconds; the memory ceiling that it raised."""
        with self._lock:
            return self._batcher.measured(batch, seconds)

    def warmed(self, timings: Iterable[Timing]) -> None:
        """A warm-up has taken these batches through the model."""
        with self._lock:
            self._batcher.warmed(timings)

    def costs(self) -> Mapping[str, Any]:
        """What was learnt about cost and size, by bucket, as JSON."""
        with self._lock:
            return self._batcher.costs()

    def forwarded(self) -> bool:
        """A batch has left the model and is to be finished; True if there is nothing else to do meanwhile."""
        with self._lock:
            self._forwarding -= 1
            idle = not (self._forwarding or self._preprocessing or self._arrived or len(self._batcher))
            if not idle or self._stopping:
                self._for_batches.notify()
            return idle

    def finished(self) -> None:
        """No model code of a batch runs any more."""
        with self._lock:
            self._unfinished -= 1
            if self._probing:
                self._for_batches.notify()
                self._for_intake.notify()

    def ceiling(self, batch: Batch[JobRun]) -> int | None:
        """How many rows of this kind fit in memory, as far as is known by now."""
        with self._lock:
            return self._batcher.ceiling(batch)

    def lower_ceiling(self, batch: Batch[JobRun], rows: int) -> Ceiling | None:
        """Remember how many rows of this kind fit in memory; the ceiling, if that is news."""
        with self._lock:
            return self._batcher.lower_ceiling(batch, rows)

    def trial_failed(self, batch: Batch[JobRun]) -> None:
        """A batch that was larger than what is known to fit in memory did not fit."""
        with self._lock:
            self._batcher.trial_failed(batch)

    def end(self, runs: Iterable[JobRun]) -> list[bool]:
        """Claim the right to report each job's outcome: True for one caller, and not for a dropped job."""
        with self._lock:
            return [self._end_once(run) for run in runs]

    def forget(self, runs: Iterable[JobRun]) -> None:
        """The outcomes have been reported."""
        with self._lock:
            for run in runs:
                self._runs.pop(run.claim, None)
            if self._stopping:
                self._for_batches.notify()

    def _end_once(self, run: JobRun) -> bool:
        if run.ended:
            return False
        self._end(run)
        return True

    def _end(self, run: JobRun) -> None:
        run.ended = True
        if run.remaining:
            self._batcher.remove(run.claim)
            with suppress(ValueError):
                self._arrived.remove(run)
            self._tell_of_room()
        if self._stopping:
            self._for_batches.notify()

    def _arrival(self, *, beside_rest: bool) -> int | None:
        """Where the next arrival stands that may be preprocessed: of large jobs none beside a rest.

        A probe overtakes nobody: its rows are those of jobs that came before it.
        """
        for place, work in enumerate(self._arrived):
            if isinstance(work, Probe):
                return None if place else place
            waits = beside_rest or self._keeps_waiting(work)
            if not (waits and self.is_large(work.job.rows)):
                return place
        return None

    def _keeps_waiting(self, run: JobRun) -> bool:
        return run.priority is Priority.BULK and len(self._batcher) >= run.job.rows

    @property
    def _awaits_arrivals(self) -> bool:
        """Whether the thread in `next_work` waits, and for nothing but jobs."""
        return self._awaiting_room and not (self._rest or self._arrived)

    def _may_go_on(self) -> bool:
        return self._arrival(beside_rest=self._rest) is not None or (self._rest and self._has_room())

    def _has_room(self) -> bool:
        return len(self._batcher) < self._ahead_rows and not self._crowded()

    def _crowded(self) -> bool:
        return self._batcher.bytes >= self._ahead_bytes

    def _tell_of_room(self) -> None:
        if self._awaiting_room and self._may_go_on():
            self._for_intake.notify()

    def _beside(self, first: JobRun, place: int) -> Iterator[JobRun]:
        """Small jobs that are preprocessed together with `first`, which stood at this place."""
        rows = first.job.rows
        while len(self._arrived) > place and isinstance(following := self._arrived[place], JobRun):
            rows += following.job.rows
            if rows > self._bunch_rows:
                return
            del self._arrived[place]
            yield following

    def _late(self, now: float) -> list[JobRun]:
        """The jobs of which nothing has been taken and that cannot be in time any more."""
        late = []
        least_s = self._batcher.least_seconds()
        while self._deadlines:
            deadline, _, run = self._deadlines[0]
            settled = run.taken or run.ended
            if not settled and deadline - least_s > now:
                break
            heappop(self._deadlines)
            if not settled:
                late.append(run)
        return late

    def _next_moment(self, now: float) -> float | None:
        """When time alone closes a batch, or makes a job late."""
        moments = [self._batcher.next_deadline(now)]
        if self._deadlines:
            moments.append(self._deadlines[0][0] - self._batcher.least_seconds())
        return min((moment for moment in moments if moment is not None), default=None)

    def _try_batch(self, now: float) -> Batch[JobRun] | None:
        if self._probing:
            return self._probe_batches.popleft() if self._probe_batches and not self._unfinished else None
        if self._forwarding >= OVERLAP:
            return None
        # Between two forwards: who can still have seats in the next batch shall not go into the one after it.
        if self._prefetched and self._batcher.outranked(self._prefetched[0]):
            return None
        more_coming = self._preprocessing or bool(self._arrived)
        return self._batcher.next_batch(
            now, idle=not self._forwarding, more_coming=more_coming, crowded=self._crowded()
        )

    def _start(self, batch: Batch[JobRun]) -> None:
        self._prefetched.append(batch)
        self._forwarding += 1
        self._unfinished += 1
        for row in batch.rows:
            row.ticket.taken = True
        self._tell_of_room()
