"""What a hub makes of a bunch, and how many envelopes it has room for; pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from shunter.storage import submission
from shunter.storage.envelope import (
    MAX_ROWS,
    Envelope,
    priority_of,
    queue_name,
    queue_of,
    read_message,
    to_envelope,
)
from shunter.storage.errors import EnvelopeError
from shunter.storage.job import Priority
from shunter.storage.quarantine import Misfit
from shunter.storage.settings import MAX_JOB_ROWS
from shunter.storage.submission import Submission, read_submission
from shunter.workers.holdings import ModelKey
from shunter.workers.lists import Bunch, Rooms
from shunter.workers.room import ClassRoom, class_rooms, widest

MAX_ENVELOPES = 512
"""Envelopes of one queue in one fetch: enough to carry thousands of single-row jobs a second."""

FIRST_ENVELOPES = 8
"""What a fetch begins with; each may be twice as large as the one before."""

SMOOTHING = 0.3
"""Weight of the latest bunch in the rows that an envelope is expected to carry."""

Held = Callable[[ModelKey], tuple[int, Mapping[Priority, int]]]
"""The credit of a model version in rows, and the rows held of each class."""

Line = tuple[str, Priority]
"""A queue and a class."""


@dataclass(frozen=True, slots=True)
class Mail:
    """A bunch, read: our envelopes, plain Celery producers' submissions, and what is neither."""

    bunch: Bunch
    envelopes: tuple[Envelope, ...]
    submissions: tuple[Submission, ...]
    misfits: tuple[Misfit, ...]

    def all_envelopes(self) -> list[Envelope]:
        """Everything that can be understood, as Flower shows it."""
        return [*self.envelopes, *(sent.envelope() for sent in self.submissions)]

    def rows(self) -> Counter[Line]:
        """Rows by queue and class; an envelope that does not tell counts as one."""
        counts: Counter[Line] = Counter()
        for envelope in self.envelopes:
            counts[queue_name(envelope.model), envelope.priority] += max(envelope.rows, 1)
        for sent in self.submissions:
            counts[queue_name(sent.model), sent.priority] += len(sent.rows)
        return counts


def read(bunch: Bunch) -> Mail:
    """Read every message of a bunch; none can spoil the others."""
    envelopes, submissions, misfits = [], [], []
    for list_key, raw in bunch.entries:
        try:
            message = read_message(raw)
            if message.task == submission.TASK_NAME:
                submissions.append(read_submission(message, list_key, raw))
            else:
                envelopes.append(to_envelope(message))
        except EnvelopeError as error:
            misfits.append(Misfit(list_key, raw, error.message))
    return Mail(bunch, tuple(envelopes), tuple(submissions), tuple(misfits))


class Intake:
    """Grants room by queue and class: what may be held, less what is held and what is being claimed."""

    def __init__(self, models: Collection[ModelKey], held: Held) -> None:
        self._models = models
        self._held = held
        self._claiming: dict[str, Counter[Line]] = {}
        self._rows_each: dict[Line, float] = {}
        self._latest: dict[Line, int] = {}

    @property
    def claiming(self) -> bool:
        """Whether a claim is under way."""
        return bool(self._claiming)

    def claim(self, mail: Mail) -> None:
        """A bunch is about to be claimed."""
        rows = mail.rows()
        self._claiming[mail.bunch.key] = rows
        envelopes = Counter((queue_of(key), priority_of(key)) for key, _ in mail.bunch.entries)
        self._latest.update(envelopes)
        for line, count in envelopes.items():
            each = rows[line] / count
            known = self._rows_each.get(line, each)
            self._rows_each[line] = known + SMOOTHING * (each - known)

    def claimed(self, bunch: Bunch) -> None:
        """Its claim is over, one way or the other."""
        self._claiming.pop(bunch.key, None)

    def rooms(self) -> dict[str, Rooms]:
        """How many envelopes of each class may be popped from each queue."""
        queues = {queue_name(name) for name, _ in self._models}
        return {queue: self._rooms(queue) for queue in queues}

    def _rooms(self, queue: str) -> Rooms:
        claiming = {priority: self._under_way((queue, priority)) for priority in Priority}
        rows = dict.fromkeys(Priority, ClassRoom(0, 0))
        for key in self._models:
            if queue_name(key[0]) == queue:
                credit, held = self._held(key)
                sums = {priority: held.get(priority, 0) + claiming[priority] for priority in Priority}
                rooms = class_rooms(credit, sums)
                rows = {priority: widest(rows[priority], rooms[priority]) for priority in Priority}
        return {priority: self._envelopes((queue, priority), room) for priority, room in rows.items()}

    def _under_way(self, line: Line) -> int:
        return sum(counts[line] for counts in self._claiming.values())

    def _envelopes(self, line: Line, rows: ClassRoom) -> ClassRoom:
        # The first bulk envelope may well be a chunk of a scoring: one of those fills a worker.
        expected = MAX_ROWS if line[1] is not Priority.BULK else MAX_JOB_ROWS
        each = max(self._rows_each.get(line, expected), 1.0)
        # Full envelopes may follow on small ones: so many more than the last time are never taken at once.
        most = min(MAX_ENVELOPES, max(FIRST_ENVELOPES, 2 * self._latest.get(line, 0)))
        return ClassRoom(*(min(most, math.ceil(count / each)) for count in rows))


def queues_of(bunch: Bunch) -> list[str]:
    """The queue of each entry."""
    return [queue_of(list_key) for list_key, _ in bunch.entries]
