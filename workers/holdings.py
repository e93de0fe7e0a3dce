"""What a hub has in its hands: the jobs it claimed, and how many rows it may hold; pure."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import starmap
from uuid import UUID

from shunter.storage.job import Claim, ClaimedJob, Priority
from shunter.storage.model_config import Batching
from shunter.storage.scoring.chunk import is_chunk

ModelKey = tuple[str, int]
"""Model and version."""

AHEAD_S = 0.5
"""A hub holds about so many seconds of work, at its own pace: many times what a claim takes, so that engines
never wait, and little, so that a slow worker does not sit on what a fast one could run."""

MIN_BATCHES = 2
"""And at least so many full batches: one in the model, one ready."""


WINDOW_ROWS = 512
"""Of a model that counts tokens at least so many: among them the batcher looks for rows of like length."""

CHUNKS_AHEAD = 3
"""And so many chunks of scorings, of whatever size: one being read, one in the model, one being written."""


def credit_rows(limits: Batching, rows_per_s: float) -> int:
    """How many rows of one model version a hub may hold."""
    window = WINDOW_ROWS if limits.max_tokens else 0
    return max(MIN_BATCHES * limits.max_rows, window, int(AHEAD_S * rows_per_s))


class Held:
    """One claimed job; `finished` once its outcome is on the way to Postgres.

    `charged` once Postgres has been told that an engine died with it under this claim, `begun` once rows
    of it have been in the model, in whatever engine. `claimed_at` is a moment of `time.monotonic`.
    """

    finished = charged = begun = False

    def __init__(self, job: ClaimedJob) -> None:
        self.job = job
        self.key: ModelKey = (job.model, job.version)
        self.is_chunk = is_chunk(job.input)
        self.claimed_at = time.monotonic()

    @property
    def claim(self) -> Claim:
        """The hold itself."""
        return Claim(self.job.id, self.job.epoch)

    def as_of(self, now: float) -> ClaimedJob:
        """The job with what is left of its deadline; none once it has begun, for then it is finished."""
        if self.job.deadline_in_s is None:
            return self.job
        left_s = None if self.begun else self.job.deadline_in_s - (now - self.claimed_at)
        return self.job._replace(deadline_in_s=left_s)


class Holdings:
    """The claimed jobs by id, and their rows by model version."""

    def __init__(self) -> None:
        # By the numbers of their ids: what a UUID costs as a key is that it is hashed in Python.
        self._jobs: dict[int, Held] = {}
        self._rows: defaultdict[ModelKey, Counter[Priority]] = defaultdict(Counter)
        self._chunks: defaultdict[ModelKey, Counter[Priority]] = defaultdict(Counter)
        self._gone: Counter[ModelKey] = Counter()

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: ClaimedJob) -> Held:
        """A job has been claimed; an older claim of the same job is forgotten."""
        if job.id.int in self._jobs:
            self.remove(job.id)
        held = self._jobs[job.id.int] = Held(job)
        self._count(held, 1)
        return held

    def get(self, id: UUID, epoch: int) -> Held | None:
        """The job of a claim, if it is still ours."""
        held = self._jobs.get(id.int)
        return held if held is not None and held.job.epoch == epoch else None

    def remove(self, id: UUID) -> None:
        """A job is ours no longer."""
        held = self._jobs.pop(id.int, None)
        if held is not None:
            self._count(held, -1)
            self._gone[held.key] += held.job.rows

    def clear(self) -> None:
        """Nothing is ours any longer."""
        self._jobs.clear()
        self._rows.clear()
        self._chunks.clear()

    def rows(
        self, key: ModelKey, *, chunk_rows: int = 0, apart: Iterable[Claim] = ()
    ) -> Mapping[Priority, int]:
        """Rows held of one model version, by class; a chunk of a scoring counts as `chunk_rows`.

        Jobs that are held `apart` count nothing.
        """
        rows, chunks = self._rows[key], self._chunks[key]
        counted = {priority: rows[priority] + chunks[priority] * chunk_rows for priority in (*rows, *chunks)}
        for held in filter(None, starmap(self.get, apart)):
            counted[held.job.priority] -= chunk_rows if held.is_chunk else held.job.rows
        return counted

    def gone(self, key: ModelKey) -> int:
        """How many rows of a model version have left its hands."""
        return self._gone[key]

    def busy(self, key: ModelKey) -> bool:
        """Whether anything is held of a model version."""
        return any(self.rows(key, chunk_rows=1).values())

    def _count(self, held: Held, sign: int) -> None:
        if held.is_chunk:
            self._chunks[held.key][held.job.priority] += sign
        else:
            self._rows[held.key][held.job.priority] += sign * held.job.rows

    def unfinished(self, key: ModelKey | None = None) -> list[Held]:
        """The jobs whose outcome is still to come, oldest claim first."""
        return [
            held for held in self._jobs.values() if not held.finished and (key is None or held.key == key)
        ]

    def claims(self) -> set[Claim]:
        """Every hold."""
        return {held.claim for held in self._jobs.values()}
