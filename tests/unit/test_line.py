"""Jobs in line inside an engine, on a clock of the test's own."""

from __future__ import annotations

import gc
import threading
import weakref
from queue import SimpleQueue

from shunter.storage.job import Priority
from shunter.storage.model_config import Batching
from shunter.workers.assembly import JobRun
from shunter.workers.batch import Batch, CloseReason, Row
from shunter.workers.batcher import Batcher
from shunter.workers.line import AHEAD_BYTES, Late, Line
from shunter.workers.messages import Probe, Run
from tests.jobs import claimed_job
from tests.waiting import wait_until


class Clock:
    """Goes on a little with each look, so that what is waited for comes."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


class Hands:
    """A line, and what a stage would do with it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.line = Line(Batcher(Batching(max_rows=8)), bunch_rows=256, clock=self.clock)

    def job(
        self, rows: int = 1, *, deadline_in_s: float | None = None, priority: Priority = Priority.STANDARD
    ) -> JobRun:
        job = claimed_job(rows=rows, deadline_in_s=deadline_in_s, priority=priority)
        self.line.accept([Run(job)])
        work = self.line.next_work()
        assert isinstance(work, list)
        (run,) = work
        self.line.add([Row(run, index, index, self.clock.now) for index in range(rows)])
        return run

    def batch(self) -> Batch[JobRun]:
        batch = self.line.next_batch()
        assert isinstance(batch, Batch)
        return batch

    def begin(self) -> Batch[JobRun]:
        batch = self.batch()
        self.line.begun()
        return batch

    def run(self, batch: Batch[JobRun], seconds: float) -> None:
        self.line.begun()
        self.line.measured(batch, seconds)
        self.line.forwarded()
        self.line.finished()
        runs = [row.ticket for row in batch.rows]
        self.line.end(runs)
        self.line.forget(runs)


def test_a_deadline_that_passes_in_line_is_told_before_any_batch() -> None:
    hands = Hands()
    late, other = hands.job(deadline_in_s=5.0), hands.job()
    hands.clock.now += 5.0
    assert hands.line.next_batch() == Late([late])
    assert hands.line.end([late]) == [True]
    assert {row.ticket for row in hands.batch().rows} == {other}


def test_a_job_that_not_even_the_fastest_batch_could_finish_in_time_is_late_already() -> None:
    hands = Hands()
    for count in (1, 2, 3, 4, 5, 6):
        for _ in range(count):
            hands.job()
        hands.run(hands.batch(), 10.0 + count)
    late, other = hands.job(deadline_in_s=5.0), hands.job(deadline_in_s=60.0)
    assert hands.line.next_batch() == Late([late])
    hands.line.end([late])
    assert {row.ticket for row in hands.batch().rows} == {other}


def test_what_has_reached_the_model_is_never_late() -> None:
    hands = Hands()
    begun = hands.job(deadline_in_s=5.0)
    hands.begin()
    hands.clock.now += 10.0
    other = hands.job()
    hands.line.forwarded()
    assert {row.ticket for row in hands.batch().rows} == {other}
    assert not begun.ended


def test_a_cancelled_job_is_not_told_late() -> None:
    hands = Hands()
    cancelled, other = hands.job(deadline_in_s=5.0), hands.job()
    hands.line.drop(cancelled.claim)
    hands.clock.now += 10.0
    assert {row.ticket for row in hands.batch().rows} == {other}


def test_what_was_measured_can_be_seen() -> None:
    hands = Hands()
    for _ in range(6):
        hands.job(rows=8)
        hands.run(hands.batch(), 0.5)
    costs = hands.line.costs()["rows"]
    assert (costs["batches"], costs["rows"]) == (6, 8)


def test_jobs_that_ended_are_not_remembered_until_their_deadline() -> None:
    hands = Hands()
    dropped = hands.job(deadline_in_s=3600.0)
    kept = weakref.ref(dropped)
    hands.line.drop(dropped.claim)
    del dropped
    other = hands.job(deadline_in_s=7200.0)
    assert {row.ticket for row in hands.batch().rows} == {other}
    gc.collect()
    assert kept() is None


def test_the_rest_of_a_large_job_waits_for_room_and_small_jobs_pass_it() -> None:
    line = Line(Batcher(Batching(max_rows=256)), bunch_rows=256)
    large, small, next_large = (JobRun(Run(claimed_job(rows=rows)), now=0.0) for rows in (9000, 1, 9000))
    line.accept([Run(large.job)])
    (begun,) = taken(line.next_work())
    line.add([Row(begun, index, index, 0.0) for index in range(512)])
    assert not line.has_room()
    line.accept([Run(next_large.job), Run(small.job)])
    assert [run.job for run in taken(line.next_work(rest=True))] == [small.job]
    assert isinstance(line.next_batch(), Batch)
    assert line.next_work(rest=True) is None
    assert [run.job for run in taken(line.next_work())] == [next_large.job]


def test_a_large_bulk_job_waits_while_as_many_rows_are_in_line_and_others_pass_it() -> None:
    hands = Hands()
    hands.job(rows=1000, priority=Priority.BULK)
    bulk, urgent, small = (
        Run(claimed_job(rows=rows, priority=priority))
        for rows, priority in ((1000, Priority.BULK), (1000, Priority.STANDARD), (1, Priority.BULK))
    )
    hands.line.accept([bulk, urgent])
    assert [run.job for run in taken(hands.line.next_work())] == [urgent.job]
    hands.line.accept([small])
    assert [run.job for run in taken(hands.line.next_work())] == [small.job]
    batch = hands.batch()
    assert [run.job for run in taken(hands.line.next_work())] == [bulk.job]
    assert len(batch.rows) <= 8


def test_whoever_waits_for_room_is_told_when_a_large_bulk_job_has_it() -> None:
    hands = Hands()
    hands.job(rows=1000, priority=Priority.BULK)
    bulk = Run(claimed_job(rows=1000, priority=Priority.BULK))
    hands.line.accept([bulk])
    given: SimpleQueue[list[JobRun] | Probe | None] = SimpleQueue()
    intake = threading.Thread(target=lambda: given.put(hands.line.next_work()), daemon=True)
    intake.start()
    hands.batch()
    assert [run.job for run in taken(given.get(timeout=10))] == [bulk.job]
    intake.join(10)


def test_a_probe_never_overtakes_a_large_job_whose_rows_it_may_hold() -> None:
    line = Line(Batcher(Batching(max_rows=256)), bunch_rows=256)
    first, second = (claimed_job(rows=9000) for _ in range(2))
    line.accept([Run(first)])
    taken(line.next_work())
    line.accept([Run(second)])
    line.accept_probe(Probe(()))
    assert line.next_work(rest=True) is None
    taken(line.next_work())
    assert line.next_work(rest=True) == Probe(())


def taken(work: list[JobRun] | Probe | None) -> list[JobRun]:
    assert isinstance(work, list)
    return work


def test_whoever_puts_rows_in_line_for_an_idle_model_has_their_batch() -> None:
    hands = Hands()
    job = hands.job()
    batch = hands.line.batch_if_idle()
    assert batch is not None
    assert {row.ticket for row in batch.rows} == {job}
    hands.line.begun()
    hands.job()
    assert hands.line.batch_if_idle() is None
    hands.line.forwarded()
    assert hands.line.batch_if_idle() is not None


def test_jobs_that_may_be_late_are_left_to_the_thread_that_tells() -> None:
    hands = Hands()
    late = hands.job(deadline_in_s=5.0)
    hands.clock.now += 10.0
    assert hands.line.batch_if_idle() is None
    assert hands.line.next_batch() == Late([late])


def test_a_model_is_idle_when_its_last_batch_has_left_it_and_nothing_waits() -> None:
    hands = Hands()
    hands.job()
    first = hands.begin()
    hands.job(rows=8)
    hands.begin()
    assert hands.line.batch_if_idle() is None
    assert not hands.line.forwarded()
    assert hands.line.forwarded()
    assert hands.line.overtake(first) is None


def test_a_prefetched_batch_gives_way_to_urgent_rows() -> None:
    hands = Hands()
    hands.job()
    hands.begin()
    bulk = hands.job(rows=8, priority=Priority.BULK)
    prefetched = hands.batch()
    urgent = hands.job(rows=2, priority=Priority.INTERACTIVE)
    hands.line.forwarded()
    batch = hands.line.overtake(prefetched)
    assert batch is not None
    assert [row.ticket for row in batch.rows] == [urgent] * 2 + [bulk] * 6
    assert urgent.taken
    hands.line.begun()
    assert hands.line.forwarded() is False
    assert [row.ticket for row in hands.batch().rows] == [bulk] * 2


def test_urgent_rows_are_not_prefetched_behind_a_batch_that_they_could_still_overtake() -> None:
    hands = Hands()
    hands.job()
    hands.begin()
    hands.job(rows=16, priority=Priority.BULK)
    prefetched = hands.batch()
    hands.line.forwarded()
    urgent = hands.job(rows=8, priority=Priority.INTERACTIVE)
    hands.clock.now += 1.0
    closed: SimpleQueue[object] = SimpleQueue()
    threading.Thread(target=lambda: closed.put(hands.line.next_batch()), daemon=True).start()
    assert hands.line.batch_if_idle() is None
    batch = hands.line.overtake(prefetched)
    assert batch is not None
    assert {row.ticket for row in batch.rows} == {urgent}
    assert closed.empty()
    hands.line.begun()
    assert isinstance(closed.get(timeout=10), Batch)


def test_the_batch_after_the_next_is_closed_between_two_forwards_if_it_holds_nobody_back() -> None:
    hands = Hands()
    hands.job()
    hands.begin()
    bulk = hands.job(rows=16, priority=Priority.BULK)
    hands.batch()
    hands.line.forwarded()
    assert {row.ticket for row in hands.batch().rows} == {bulk}


def test_rows_that_leave_no_room_by_their_bytes_are_a_batch_whatever_else_has_arrived() -> None:
    hands = Hands()
    hands.line.accept([Run(claimed_job(rows=1000))])
    (run,) = hands.line.next_work()  # type: ignore[misc]
    batches: SimpleQueue[object] = SimpleQueue()
    threading.Thread(target=lambda: batches.put(hands.line.next_batch()), daemon=True).start()
    hands.line.add([Row(run, index, index, hands.clock.now, bytes=AHEAD_BYTES // 4) for index in range(4)])
    hands.line.accept([Run(claimed_job(rows=1000))])
    batch = batches.get(timeout=10)
    assert isinstance(batch, Batch)
    assert (len(batch.rows), batch.reason) == (4, CloseReason.BYTES)


def waits_for_work(line: Line) -> SimpleQueue[list[JobRun] | Probe | None]:
    """What a thread is given that waits for the next work."""
    given: SimpleQueue[list[JobRun] | Probe | None] = SimpleQueue()
    threading.Thread(target=lambda: given.put(line.next_work()), daemon=True).start()
    wait_until(lambda: line._awaits_arrivals)
    return given


def test_quick_jobs_of_an_idle_engine_are_left_to_whoever_brings_them() -> None:
    hands = Hands()
    given = waits_for_work(hands.line)
    quick, other = Run(claimed_job(rows=1)), Run(claimed_job(rows=1))
    (run,) = hands.line.accept([quick], quick=True)
    assert run.job is quick.job
    hands.line.add([Row(run, 0, 0, hands.clock.now)])
    batch = hands.line.batch_if_idle()
    assert batch is not None
    assert {row.ticket for row in batch.rows} == {run}
    assert hands.line.accept([other], quick=True) == []
    assert [run.job for run in taken(given.get(timeout=10))] == [other.job]


def test_jobs_that_are_not_quick_are_left_to_the_thread_that_waits_for_them() -> None:
    hands = Hands()
    given = waits_for_work(hands.line)
    job = Run(claimed_job(rows=1))
    assert hands.line.accept([job]) == []
    assert [run.job for run in taken(given.get(timeout=10))] == [job.job]


def test_quick_jobs_overtake_nobody() -> None:
    line = Line(Batcher(Batching(max_rows=8)), bunch_rows=256)
    first, second = Run(claimed_job(rows=1)), Run(claimed_job(rows=1))
    assert line.accept([first], quick=True) == []
    assert line.accept([second], quick=True) == []
    assert [run.job for run in taken(line.next_work())] == [first.job, second.job]
