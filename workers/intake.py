"""What a hub makes of a bunch, and how many envelopes it has room for; pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from shunter.storage import submission
from shunter.storage.envelope import MAX_ROWS, Envelope, queue_name, queue_of, read_message, to_envelope
from shunter.storage.errors import EnvelopeError
from shunter.storage.quarantine import Misfit
from shunter.storage.submission import Submission, read_submission
from shunter.workers.holdings import ModelKey
from shunter.workers.lists import Bunch

MAX_ENVELOPES = 512
"""Envelopes of one queue in one fetch: enough to carry thousands of single-row jobs a second."""

SMOOTHING = 0.3
"""Weight of the latest bunch in the rows that an envelope is expected to carry."""

Room = Callable[[ModelKey], int]
"""How many more rows of a model version the worker may hold; zero or less is none."""


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

    def rows(self) -> Counter[str]:
        """Rows by queue; an envelope that does not tell counts as one."""
        counts: Counter[str] = Counter()
        for envelope in self.envelopes:
            counts[queue_name(envelope.model)] += max(envelope.rows, 1)
        for sent in self.submissions:
            counts[queue_name(sent.model)] += len(sent.rows)
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
    """Grants room by queue: what its models have room for, less what is being claimed."""

    def __init__(self, models: Collection[ModelKey], room: Room) -> None:
        self._models = models
        self._room = room
        self._claiming: dict[str, Counter[str]] = {}
        self._rows_each: dict[str, float] = {}

    @property
    def claiming(self) -> bool:
        """Whether a claim is under way."""
        return bool(self._claiming)

    def claim(self, mail: Mail, counts: Iterable[str]) -> None:
        """A bunch is about to be claimed; `counts` names the queue of each of its entries."""
        rows = mail.rows()
        self._claiming[mail.bunch.key] = rows
        for queue, envelopes in Counter(counts).items():
            each = rows[queue] / envelopes
            known = self._rows_each.get(queue, each)
            self._rows_each[queue] = known + SMOOTHING * (each - known)

    def claimed(self, bunch: Bunch) -> None:
        """Its claim is over, one way or the other."""
        self._claiming.pop(bunch.key, None)

    def rooms(self) -> dict[str, int]:
        """How many envelopes may be popped from each queue."""
        queues = {queue_name(name) for name, _ in self._models}
        return {queue: self._envelopes(queue) for queue in queues}

    def _envelopes(self, queue: str) -> int:
        rows = max(self._room(key) for key in self._models if queue_name(key[0]) == queue)
        rows -= sum(counts[queue] for counts in self._claiming.values())
        if rows <= 0:
            return 0
        return min(MAX_ENVELOPES, math.ceil(rows / max(self._rows_each.get(queue, MAX_ROWS), 1.0)))


def queues_of(bunch: Bunch) -> list[str]:
    """The queue of each entry."""
    return [queue_of(list_key) for list_key, _ in bunch.entries]
