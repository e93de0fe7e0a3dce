"""What rows refer to is fetched ahead of their turn, and bounded in bytes, whatever jobs they are of."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from shunter.storage.errors import NotFound
from shunter.storage.job import Priority
from shunter.storage.reference_reader import MAX_OBJECT_BYTES
from shunter.storage.references import reference
from shunter.workers.assembly import Decoded, JobRun
from shunter.workers.isolation import Failure
from shunter.workers.messages import Run
from shunter.workers.references import MAX_ROW_BYTES, Backlog, References
from tests.jobs import claimed_job
from tests.waiting import wait_until

SIZE = 10


class Objects:
    """Every URL is an object of `size` bytes, once the test lets them come; `asked` are those asked for."""

    def __init__(self, size: int = SIZE) -> None:
        self.size = size
        self.gate = threading.Event()
        self.asked: list[str] = []
        self.read_bytes = 0

    def read(self, url: str, *, trusted: Sequence[str] = (), admit: Callable[[int], object]) -> bytes:
        self.asked.append(url)
        assert self.gate.wait(10)
        if url == "missing":
            raise NotFound(url)
        for _ in ("cut short", "whole"):
            admit(self.size)
        self.read_bytes += self.size
        return bytes(self.size)


def job(name: str, rows: int, priority: Priority = Priority.STANDARD) -> list[Decoded]:
    run = JobRun(Run(claimed_job(rows=rows, priority=priority)), now=0.0)
    run.refers = True
    return [(run, index, reference(f"{name}{index}")) for index in range(rows)]


def backlog_of(objects: Objects, *, ahead_bytes: int) -> tuple[References, Backlog]:
    references = References(objects, max_attempts=1)
    return references, Backlog(references, ahead_bytes=ahead_bytes)


def learn(references: References) -> None:
    """Fetch some, so that it is known how large they are."""
    assert [row[2] for row in references.fetched(job("first", 2))] == [bytes(SIZE)] * 2


def test_no_more_is_fetched_of_a_small_job_than_may_be_held() -> None:
    objects = Objects()
    objects.gate.set()
    references, backlog = backlog_of(objects, ahead_bytes=3 * SIZE)
    learn(references)
    backlog.extend(job("a", 20), large=False)
    bunch = backlog.take(256)
    assert [index for _, index, _ in bunch] == [0, 1, 2]
    wait_until(lambda: len(objects.asked) == 2 + 6)
    taken = [row for _, _, row in references.fetched(bunch)]
    while backlog:
        taken += [row for _, _, row in references.fetched(backlog.take(256))]
    assert taken == [bytes(SIZE)] * 20


def test_objects_on_their_way_count_as_large_as_those_before_them() -> None:
    objects = Objects()
    references, backlog = backlog_of(objects, ahead_bytes=2 * MAX_OBJECT_BYTES)
    backlog.extend(job("a", 64), large=True)
    # Nobody knows yet how large they are: they may be as large as any.
    assert len(backlog.take(64)) == 2
    objects.gate.set()
    learn(references)
    assert len(backlog.take(64)) == 62


def test_a_row_larger_than_all_that_may_be_held_is_fetched_by_itself() -> None:
    objects = Objects()
    objects.gate.set()
    references, backlog = backlog_of(objects, ahead_bytes=1)
    learn(references)
    backlog.extend(job("a", 3), large=False)
    assert [len(backlog.take(64)) for _ in range(3)] == [1, 1, 1]
    assert not backlog


def test_a_small_job_goes_before_the_rest_of_a_large_one() -> None:
    objects = Objects()
    objects.gate.set()
    references, backlog = backlog_of(objects, ahead_bytes=2 * SIZE)
    learn(references)
    backlog.extend(large := job("large", 600), large=True)
    backlog.take(64)
    backlog.extend(small := job("small", 2), large=False)
    # What had begun of the large one is on its way already.
    assert [row[0] for row in (*backlog.take(64), *backlog.take(64))] == [large[0][0]] * 2 + [small[0][0]] * 2


def test_small_jobs_go_by_their_classes() -> None:
    objects = Objects()
    objects.gate.set()
    references, backlog = backlog_of(objects, ahead_bytes=2 * SIZE)
    learn(references)
    waiting = [job(name, 2, Priority[name]) for name in ("BULK", "STANDARD", "INTERACTIVE")]
    for rows in waiting:
        backlog.extend(rows, large=False)
    taken = [row for _ in waiting for row in references.fetched(backlog.take(2))]
    assert [row[0].job.priority for row in taken] == [p for p in Priority for _ in range(2)]


def test_where_nothing_can_be_had_the_next_ones_are_not_taken_for_large() -> None:
    objects = Objects()
    objects.gate.set()
    references = References(objects, max_attempts=1)
    (row,) = job("x", 1)
    references.fetched([(row[0], 0, reference("missing"))])
    assert references.expected_bytes == 0


def test_an_object_that_cannot_be_had_takes_no_room() -> None:
    objects = Objects()
    objects.gate.set()
    references, backlog = backlog_of(objects, ahead_bytes=2 * SIZE)
    learn(references)
    run = JobRun(Run(claimed_job(rows=2)), now=0.0)
    run.refers = True
    backlog.extend([(run, index, reference("missing")) for index in range(2)], large=False)
    told = [row for _, _, row in references.fetched(backlog.take(64))]
    assert [type(row) for row in told] == [Failure, Failure]


def test_the_objects_of_one_row_are_bounded_together() -> None:
    objects = Objects(MAX_OBJECT_BYTES)
    objects.gate.set()
    references = References(objects, max_attempts=1)
    run = JobRun(Run(claimed_job(rows=2)), now=0.0)
    run.refers = True
    most = MAX_ROW_BYTES // MAX_OBJECT_BYTES
    rows: list[Any] = [[reference(f"{count}-{n}") for n in range(count)] for count in (most, most + 1)]
    fits, refused = references.fetched([(run, index, row) for index, row in enumerate(rows)])
    assert [len(data) for data in fits[2]] == [MAX_OBJECT_BYTES] * most
    assert isinstance(refused[2], Failure)
    assert refused[2].code == "fetch_too_large"
    assert objects.read_bytes <= 2 * MAX_ROW_BYTES
