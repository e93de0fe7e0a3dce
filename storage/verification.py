"""Whether what is stored agrees with itself: each check is one pure function over the facts of one job.

It only reads, and can run beside a working fleet. What is under way looks wrong for a moment, so that a
suspicion becomes a finding only when it still holds, for the same run of the same job, a while later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TypeVar
from uuid import UUID

from shunter.storage.errors import Corrupt, ObjectNotFound, PayloadError
from shunter.storage.job import JobState
from shunter.storage.job_facts import JobFacts, JobFactsReader
from shunter.storage.object_store import ObjectInfo, ObjectStore
from shunter.storage.payload import decode_rows, row_count
from shunter.storage.results import OBJECT_PREFIXES, job_of
from shunter.storage.scoring.chunk import is_part

Item = TypeVar("Item")

CONFIRM_AFTER_S = 5.0
"""Longer than the duties take to mend what they find."""

OVERDUE_S = 30.0
"""Duties that run every second are this late only when nobody runs them."""

UNNAMED_AFTER_S = 32 * 3600.0
"""Objects that no row names are swept after a day, by a duty that looks every six hours."""

MAX_SUSPECTS = 10_000
"""More are not remembered: they would tell nothing new."""

OBJECTS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong: which check says so, of what, and why."""

    check: str
    subject: str
    message: str


Check = Callable[[JobFacts], str | None]
"""What is wrong with a job, or None."""


def stuck(job: JobFacts) -> str | None:
    """I1: a job that nothing will bring to its end."""
    if job.state is JobState.RUNNING and not job.worker_is_open:
        return "running, but its worker has ended: is a worker alive to rescue it?"
    if job.state is JobState.QUEUED and job.late_s > OVERDUE_S:
        return f"queued {job.late_s:.0f} s after its deadline: is a worker alive to expire it?"
    if job.state is JobState.QUEUED and job.overslept_s > OVERDUE_S:
        return f"its next run has been due for {job.overslept_s:.0f} s: is a worker alive to wake it?"
    return None


def one_result(job: JobFacts) -> str | None:
    """I2: exactly one output if it succeeded, none otherwise."""
    wanted = int(job.state is JobState.SUCCEEDED)
    # A chunk of which every row failed has its errors file, if it came to have any.
    most = 1 if job.is_chunk and job.state is JobState.FAILED else wanted
    return None if wanted <= job.outputs <= most else f"{job.state} with {job.outputs} outputs, not {wanted}"


def one_input(job: JobFacts) -> str | None:
    """I3: what was accepted is kept in exactly one place."""
    return None if job.inputs == 1 else f"its input is in {job.inputs} places, not 1"


def counters(job: JobFacts) -> str | None:
    """I4: the counters are the count of the rows, and the failed ones are listed."""
    done = job.rows_succeeded + job.rows_failed
    if job.state in (JobState.SUCCEEDED, JobState.FAILED) and done != job.rows:
        return f"{job.rows_succeeded} rows succeeded and {job.rows_failed} failed, of {job.rows}"
    if job.state is JobState.SUCCEEDED and not job.rows_succeeded:
        return "succeeded without a row that did"
    if job.state is JobState.FAILED and job.rows_succeeded:
        return f"failed with {job.rows_succeeded} rows that succeeded"
    # A job that failed as a whole lists none.
    if job.rows_listed and job.rows_listed != job.rows_failed:
        return f"{job.rows_failed} rows failed, and {job.rows_listed} are listed"
    listed = job.rows_listed or job.is_chunk
    if job.state is JobState.SUCCEEDED and job.rows_failed and not listed:
        return f"{job.rows_failed} rows failed, and none is listed"
    return None


def owner(job: JobFacts) -> str | None:
    """I5: a worker while it runs, none while it waits; an end when it has ended, and not before."""
    if job.state is JobState.RUNNING and not (job.has_worker and job.epoch):
        return "running, and in nobody's hands"
    if job.state is JobState.QUEUED and job.has_worker:
        return "queued, and in a worker's hands"
    if job.has_finished != job.state.terminal:
        return f"{job.state} {'with' if job.has_finished else 'without'} a time of its end"
    return None


def output_rows(job: JobFacts) -> str | None:
    """I2: the stored outputs are one for each row."""
    if job.output_head is None:
        return None
    if job.is_chunk:
        return None if is_part(job.output_head) else "its output does not say where its files are"
    try:
        held = row_count(job.output_head)
    except PayloadError as error:
        return error.message
    return None if held == job.rows else f"{held} outputs for {job.rows} rows"


def reason(job: JobFacts) -> str | None:
    """A job that failed says why."""
    return "failed, and does not say why" if job.state is JobState.FAILED and not job.has_error else None


CHECKS: Mapping[str, Check] = {
    "stuck": stuck,
    "result": one_result,
    "input": one_input,
    "outputs": output_rows,
    "counters": counters,
    "owner": owner,
    "reason": reason,
}


def unnamed(key: str, job: JobFacts | None) -> bool:
    """Whether no row names this object, and none will: the run that wrote it may still be settled."""
    if job is None:
        return True
    return job.state.terminal and key not in (job.input_key, job.output_key)


class Verification:
    """Reads every job and the name of every object once, in pages; and what looked wrong, once more.

    With `reads_objects` also the bytes of every input and output, which a digest and a checksum tell of.
    """

    def __init__(
        self,
        reader: JobFactsReader,
        store: ObjectStore,
        *,
        pause: Callable[[float], None] = time.sleep,
        unnamed_after_s: float = UNNAMED_AFTER_S,
        reads_objects: bool = False,
    ) -> None:
        self._reader = reader
        self._store = store
        self._pause = pause
        self._unnamed_after = timedelta(seconds=unnamed_after_s)
        self._reads_objects = reads_objects
        self.jobs = 0
        self.objects = 0

    def run(self) -> list[Finding]:
        """What is wrong. Raises Unavailable."""
        suspects = list(islice(self._suspects(), MAX_SUSPECTS))
        unnamed_ = list(islice(self._unnamed(), MAX_SUSPECTS))
        if suspects or unnamed_:
            self._pause(CONFIRM_AFTER_S)
        return [*self._confirmed(suspects), *self._confirmed_unnamed(unnamed_)]

    def _suspects(self) -> Iterator[tuple[JobFacts, Finding]]:
        for page in self._reader.pages():
            self.jobs += len(page)
            for job in page:
                for finding in self._look(job):
                    yield job, finding

    def _look(self, job: JobFacts) -> Iterator[Finding]:
        for name, check in CHECKS.items():
            message = check(job)
            if message is not None:
                yield Finding(name, str(job.id), message)
        for key in filter(None, (job.input_key, job.output_key)):
            message = self._look_at(key)
            if message is not None:
                yield Finding("object", str(job.id), message)

    def _look_at(self, key: str) -> str | None:
        """What is wrong with an object, or None."""
        try:
            if self._reads_objects:
                decode_rows(self._store.get(key))
            else:
                self._store.get_range(key, 0, 1)
        except ObjectNotFound:
            return f"the object {key} is gone"
        except Corrupt as error:
            return f"the object {key} is damaged: {error.message}"
        return None

    def _confirmed(self, suspects: Collection[tuple[JobFacts, Finding]]) -> list[Finding]:
        now = self._reader.these({job.id for job, _ in suspects})
        still = {id: {finding.check: finding for finding in self._look(job)} for id, job in now.items()}
        return [
            still[job.id][finding.check]
            for job, finding in suspects
            if job.id in now
            and now[job.id].circumstances == job.circumstances
            and finding.check in still[job.id]
        ]

    def _unnamed(self) -> Iterator[tuple[str, UUID]]:
        for prefix in OBJECT_PREFIXES:
            for some in pages(self._store.list(prefix), OBJECTS_AT_ONCE):
                self.objects += len(some)
                before = datetime.now(UTC) - self._unnamed_after
                yield from self._without_row([info for info in some if info.modified <= before])

    def _without_row(self, objects: Collection[ObjectInfo]) -> list[tuple[str, UUID]]:
        owners = {info.key: job_of(info.key) for info in objects}
        jobs = self._reader.these({id for id in owners.values() if id is not None})
        return [(key, id) for key, id in owners.items() if id is not None and unnamed(key, jobs.get(id))]

    def _confirmed_unnamed(self, suspects: Collection[tuple[str, UUID]]) -> list[Finding]:
        jobs = self._reader.these({id for _, id in suspects})
        return [
            Finding("unnamed", key, "no row names this object: the retention duty should have swept it")
            for key, id in suspects
            if unnamed(key, jobs.get(id))
        ]


def pages(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items, `size` at a time."""
    rest = iter(items)
    while page := list(islice(rest, size)):
        yield page
