"""What producers asked for and were answered, and whether what is stored keeps every promise made to them.

Each invariant is a pure function over one entry of the ledger and the fate of its job. What needs no ledger
is checked as an operator does it, by `shunter verify`.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from shunter.storage.job import Job, JobState
from shunter.storage.object_store import open_object_store
from shunter.storage.outcome import StoredResult
from shunter.storage.payload import decode_rows
from shunter.storage.results import load_block
from tests.faults.arena import Arena

PAGE = 500

LARGE = "x" * 300_000
"""Makes an output so large that it goes to the object store."""

SECRET = "s3cr3t-in-metadata"
"""On every job; nobody who reads a log may see it."""

MODEL_SOURCE = """
import time
from shunter import RowError

class Model:
    def load(self, directory, device, *, row_s):
        self.row_s = row_s

    def preprocess(self, row):
        if row % 101 == 100:
            raise RowError("unlucky", "the row asked for it")
        return row

    def forward(self, rows):
        time.sleep(self.row_s * len(rows))
        return [[2 * row, "x" * 300_000] if row % 499 == 498 else 2 * row for row in rows]
"""

MOVES = """
SELECT id, count(*) FILTER (WHERE target NOT IN ('queued', 'running')),
    count(*) FILTER (WHERE source NOT IN ('queued', 'running'))
FROM moves WHERE id = ANY(%s::uuid[]) GROUP BY id
"""


KEYS = "SELECT key, job_id FROM idempotency_keys WHERE key = ANY(%s)"


def unlucky(number: int) -> bool:
    """Whether the model refuses this row."""
    return number % 101 == 100


def expected(number: int) -> object:
    """What the model makes of a row."""
    return [2 * number, LARGE] if number % 499 == 498 else 2 * number


@dataclass(frozen=True, slots=True)
class Entry:
    """One submission: its key if it had one, its rows, and the job that it was promised, if any."""

    key: str | None
    numbers: tuple[int, ...]
    job: UUID | None
    cancelled: bool = False
    """Whether a cancellation was confirmed."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a job."""

    job: Job
    result: StoredResult
    outputs: Sequence[object] | None
    endings: int
    """How often it came to an end."""
    revivals: int
    """How often it left one."""
    keyed: UUID | None
    """The job that its key names."""


@dataclass
class Ledger:
    """Entries, in the order of their answers; safe for threads."""

    entries: list[Entry] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    """How often producers were told to try again, by the code they were told."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def note(self, entry: Entry) -> None:
        """Add an entry."""
        with self._lock:
            self.entries.append(entry)

    def refused(self, code: str) -> None:
        """Count a refusal."""
        with self._lock:
            self.refusals[code] += 1

    @property
    def accepted(self) -> list[Entry]:
        """What was promised."""
        return [entry for entry in self.entries if entry.job is not None]


Invariant = Callable[[Entry, Fate | None], str | None]


def ended(entry: Entry, fate: Fate | None) -> str | None:
    """I1: every accepted job ends."""
    return None if fate is None or fate.job.state.terminal else f"is still {fate.job.state}"


def once(entry: Entry, fate: Fate | None) -> str | None:
    """I2: it ends once, stays ended, and has one result if it succeeded."""
    if fate is None or (fate.endings, fate.revivals) == (1, 0):
        return None
    return f"ended {fate.endings} times and was revived {fate.revivals} times"


def durable(entry: Entry, fate: Fate | None) -> str | None:
    """I3: what was accepted is there, and its key names it."""
    if fate is None:
        return "was accepted, and is not there"
    return None if entry.key is None or fate.keyed == entry.job else f"its key names {fate.keyed}"


def counted(entry: Entry, fate: Fate | None) -> str | None:
    """I4: its counters are the count of its rows."""
    if fate is None or fate.job.state not in (JobState.SUCCEEDED, JobState.FAILED):
        return None
    failed = len(fate.result.row_failures())
    told = (fate.job.rows, fate.job.rows_succeeded, fate.job.rows_failed)
    counts = (len(entry.numbers), len(entry.numbers) - failed, failed)
    return None if told == counts else f"counts {told} instead of {counts}"


def final(entry: Entry, fate: Fate | None) -> str | None:
    """I6: what was cancelled stays so; and nothing else is."""
    if fate is None:
        return None
    if entry.cancelled and fate.job.state is not JobState.CANCELLED:
        return f"was cancelled, and is {fate.job.state}"
    return None


def own(entry: Entry, fate: Fate | None) -> str | None:
    """I7: each row has its own output or its own error."""
    if fate is None or fate.job.state in (JobState.CANCELLED, JobState.QUEUED, JobState.RUNNING):
        return None
    failed = {failure.index: failure.code for failure in fate.result.row_failures()}
    wanted = {index: "unlucky" for index, number in enumerate(entry.numbers) if unlucky(number)}
    if len(wanted) == len(entry.numbers):
        return None if fate.job.state is JobState.FAILED else "succeeded without a row that could"
    if failed != wanted:
        return f"its failed rows are {failed}, not {wanted}"
    outputs = [None if unlucky(number) else expected(number) for number in entry.numbers]
    return None if fate.outputs == outputs else "has outputs of other rows"


INVARIANTS: Mapping[str, Invariant] = {
    "I1": ended,
    "I2": once,
    "I3": durable,
    "I4": counted,
    "I6": final,
    "I7": own,
}


def violations(place: Arena, ledger: Ledger) -> Iterator[str]:
    """Every promise that was not kept."""
    accepted = ledger.accepted
    for start in range(0, len(accepted), PAGE):
        page = accepted[start : start + PAGE]
        fates = _fates(place, page)
        for entry in page:
            assert entry.job is not None
            for name, invariant in INVARIANTS.items():
                message = invariant(entry, fates.get(entry.job))
                if message is not None:
                    yield f"{name}: job {entry.job} ({entry.key}) {message}"


def _fates(place: Arena, page: Sequence[Entry]) -> dict[UUID, Fate]:
    ids = [entry.job for entry in page if entry.job is not None]
    store = open_object_store(place.settings.object_store)
    jobs, results = place.repository.get_many(ids), place.repository.results(ids)
    moves = {id: (endings, revivals) for id, endings, revivals in place.ask(MOVES, (ids,))}
    keys = dict(place.ask(KEYS, ([entry.key for entry in page if entry.key],)))
    fates = {}
    for entry in page:
        id = entry.job
        if id is None or id not in jobs:
            continue
        blob = results[id].output
        outputs = None if blob is None else decode_rows(load_block(store, blob))
        keyed = keys.get(entry.key) if entry.key else None
        fates[id] = Fate(jobs[id], results[id], outputs, *moves.get(id, (0, 0)), keyed)
    return fates
