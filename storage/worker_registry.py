"""Which workers there are, what they serve, and whether they still beat."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg2.extras import Json

from shunter.storage.batch_report import join_key, split_key, sum_up
from shunter.storage.database import Database, fetch_all
from shunter.storage.errors import shorten
from shunter.storage.serving import ServingState
from shunter.storage.software import VERSION

LEASE_S = 10.0
"""A worker whose heartbeat has not moved for so long is dead; it beats several times within it."""

BEAT_INTERVAL_S = 1.0

FORGET_AFTER_S = 24 * 3600
"""Ended workers are kept so long, so that people can see what became of them."""


DEFAULT_POOL = "default"


@dataclass(frozen=True, slots=True)
class AtWork:
    """What an engine has in its hands: the stage that has it, rows of so many jobs, and for how long."""

    stage: str
    rows: int
    jobs: int
    for_s: float


@dataclass(frozen=True, slots=True)
class Serving:
    """One model version that a worker serves.

    `loads` is how often its engine was started, `memory_bytes` the most it was seen to take once loaded,
    `at_work` what it was at when the worker last beat.
    """

    model: str
    version: int
    state: str = ServingState.IDLE
    error: str | None = None
    loads: int = 0
    memory_bytes: int | None = None
    at_work: AtWork | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWorker:
    """A hub that presents itself: an incarnation is one life of one process.

    `memory_budget_bytes` is what its engines may take together, None without a limit.
    """

    incarnation: UUID
    name: str
    host: str
    pid: int
    device: str
    serves: tuple[Serving, ...]
    pool: str = DEFAULT_POOL
    memory_budget_bytes: int | None = None
    software: str = VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker as the database knows it; `silent_s` seconds have passed since its last beat.

    `memory_bytes` is what its engines take together, `software` the version of Shunter that it runs, and
    `clock_ahead_s` how far its clock was before Postgres' when it last beat; None if it does not tell.
    """

    incarnation: UUID
    name: str
    host: str
    pid: int
    device: str
    state: str
    started_at: datetime
    silent_s: float
    serves: tuple[Serving, ...]
    stats: dict[str, Any] = field(default_factory=dict)
    pool: str = DEFAULT_POOL
    memory_bytes: int | None = None
    memory_budget_bytes: int | None = None
    software: str | None = None
    clock_ahead_s: float | None = None

    @property
    def live(self) -> bool:
        """Whether it beats."""
        return self.state != "ended" and self.silent_s < LEASE_S

    def serving(self, model: str, version: int) -> Serving | None:
        """What it says of this model version, if it serves it."""
        return next((s for s in self.serves if (s.model, s.version) == (model, version)), None)


@dataclass(frozen=True, slots=True)
class SilentEnd:
    """A worker that was given up because it had stopped beating, `silent_s` seconds ago."""

    name: str
    pid: int
    silent_s: float


def batches_by_version(
    workers: Iterable[Worker], *, model: str | None = None
) -> dict[tuple[str, int], dict[str, Any]]:
    """What live workers tell of their batches, summed up by (model, version), in that order."""
    told: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for worker in workers:
        for key, document in worker.stats.items() if worker.live else ():
            told.setdefault(split_key(key), []).append(document)
    return {key: sum_up(told[key]) for key in sorted(told) if model in (None, key[0])}


def rows_per_s(workers: Iterable[Worker], model: str, version: int) -> float:
    """The median of what the workers have measured of one of them, in rows per second; 0 if none has."""
    key = join_key(model, version)
    measured = sorted(rate for worker in workers if (rate := worker.stats.get(key, {}).get("rows_per_s")))
    return float(measured[len(measured) // 2]) if measured else 0.0


REGISTER = """
INSERT INTO workers (incarnation, name, host, pid, pool, device, memory_budget_bytes, software, serves)
VALUES (%(incarnation)s, %(name)s, %(host)s, %(pid)s, %(pool)s, %(device)s,
    %(memory_budget_bytes)s, %(software)s, %(serves)s)
"""

BEAT = """
UPDATE workers SET beat = beat + 1, beat_at = now(), state = %(state)s, serves = %(serves)s,
    stats = %(stats)s, memory_bytes = %(memory_bytes)s,
    clock_ahead_s = %(clock)s - extract(epoch FROM now())
WHERE incarnation = %(incarnation)s AND ended_at IS NULL RETURNING beat
"""

END = """
UPDATE workers SET ended_at = now(), state = 'ended'
WHERE incarnation = ANY(%(incarnations)s::uuid[]) AND ended_at IS NULL RETURNING incarnation
"""

BEATS = "SELECT incarnation, beat FROM workers WHERE ended_at IS NULL"

COLUMNS = """
SELECT incarnation, name, host, pid, pool, device, state, started_at, serves, stats, memory_bytes,
    memory_budget_bytes, software, clock_ahead_s,
    extract(epoch FROM now() - beat_at)::float8 AS silent_s
FROM workers
"""

PRESENT = f"{COLUMNS} WHERE ended_at IS NULL ORDER BY name, started_at"

ONE = f"{COLUMNS} WHERE incarnation = %(incarnation)s"

# One that leaves by itself beats until then.
SILENT_ENDS = """
SELECT name, pid, extract(epoch FROM now() - beat_at)::float8 FROM workers
WHERE ended_at > now() - make_interval(secs => %(seconds)s)
  AND ended_at - beat_at > make_interval(secs => %(silence_s)s)
ORDER BY beat_at DESC
"""

FORGET = "DELETE FROM workers WHERE ended_at < now() - make_interval(secs => %(seconds)s)"


class WorkerRegistry:
    """The one reader and writer of the workers table."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def register(self, worker: NewWorker) -> None:
        """Make a new incarnation known."""
        with self._database.transaction() as cursor:
            cursor.execute(REGISTER, {**asdict(worker), "serves": _serves(worker.serves)})

    def beat(
        self,
        incarnation: UUID,
        *,
        state: str,
        serves: Sequence[Serving],
        stats: dict[str, Any],
        memory_bytes: int | None = None,
    ) -> bool:
        """Say that a worker lives; False when it has been given up and must begin anew."""
        said = {"state": state, "serves": _serves(serves), "stats": Json(stats), "memory_bytes": memory_bytes}
        names = {"incarnation": incarnation, "clock": self._clock(), **said}
        with self._database.transaction() as cursor:
            cursor.execute(BEAT, names)
            return cursor.fetchone() is not None

    def end(self, incarnations: Collection[UUID]) -> list[UUID]:
        """Close these incarnations, whether they left or died; returns those that were still open."""
        with self._database.transaction() as cursor:
            cursor.execute(END, {"incarnations": list(incarnations)})
            return [row[0] for row in cursor.fetchall()]

    def beats(self) -> dict[UUID, int]:
        """The heartbeat counter of every open incarnation; only its movement means anything."""
        with self._database.transaction() as cursor:
            cursor.execute(BEATS)
            return dict(cursor.fetchall())

    def present(self) -> list[Worker]:
        """Every open incarnation, silent ones included."""
        with self._database.transaction() as cursor:
            cursor.execute(PRESENT)
            return [_worker(row) for row in fetch_all(cursor)]

    def get(self, incarnation: UUID) -> Worker | None:
        """One incarnation, also one that has ended; None if it is forgotten."""
        with self._database.transaction() as cursor:
            cursor.execute(ONE, {"incarnation": incarnation})
            return next((_worker(row) for row in fetch_all(cursor)), None)

    def silent_ends(self) -> list[SilentEnd]:
        """Those given up in the last hour, the latest first."""
        with self._database.transaction() as cursor:
            cursor.execute(SILENT_ENDS, {"seconds": 3600, "silence_s": LEASE_S / 2})
            return [SilentEnd(*row) for row in cursor.fetchall()]

    def forget(self) -> None:
        """Remove those that ended long ago."""
        with self._database.transaction() as cursor:
            cursor.execute(FORGET, {"seconds": FORGET_AFTER_S})


def _serves(serves: Sequence[Serving]) -> Json:
    # A model that does not load says anything; one NUL in it would stop the heartbeat.
    clean = (replace(serving, error=serving.error and shorten(serving.error)) for serving in serves)
    return Json([asdict(serving) for serving in clean])


def _worker(row: dict[str, Any]) -> Worker:
    return Worker(**{**row, "serves": tuple(_serving(said) for said in row["serves"])})


def _serving(said: dict[str, Any]) -> Serving:
    # A newer worker may say more than this reader knows.
    known = {field.name for field in fields(Serving)}
    serving = Serving(**{name: value for name, value in said.items() if name in known})
    return replace(serving, at_work=AtWork(**said["at_work"]) if said.get("at_work") else None)
