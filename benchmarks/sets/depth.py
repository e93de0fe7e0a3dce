"""Whether a long queue costs: jobs taken from queues of ten thousand to a million, and a million items."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass

from benchmarks.contestants.celery import packed
from benchmarks.contestants.shunter import Shunter, many
from benchmarks.progress import Progress
from benchmarks.report import Report, spread
from benchmarks.rig import MODELS, POLL_S, Rig, redis_count, rig, say, wait_for
from benchmarks.usage import used_by
from shunter.producers.publisher import Publisher
from shunter.storage.database import Database
from shunter.storage.envelope import Due, pack
from shunter.storage.ids import new_ids
from shunter.storage.job import NewJob, Priority
from shunter.storage.job_repository import JobRepository
from shunter.storage.payload import encode_rows

AT_ONCE = 5000
"""Jobs inserted by one statement."""

TURN_S = 2.0
"""A worker that is held must go on before its lease ends, while the others have their turns."""

SHORT = 50_000
"""A shorter queue may be empty before the turn ends."""

COMMITTED_S = 0.1
"""In which what a held worker has sent to Postgres is committed."""

TURNS = 8
WARM_UP = 256
MILLION, PART = 1_000_000, 100_000

ANY_LEFT = """SELECT EXISTS (SELECT FROM jobs WHERE state = 'queued')
OR EXISTS (SELECT FROM jobs WHERE state = 'running')"""

TRANSACTIONS = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
"""The number of the next transaction that writes; looking takes none."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What it cost to take some jobs off a queue."""

    jobs: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    transactions: int = 0
    trips: int = 0

    def __add__(self, more: Taken) -> Taken:
        return Taken(*(a + b for a, b in zip(astuple(self), astuple(more), strict=True)))

    def per_job(self, field: str) -> float:
        """One of the costs, of one job."""
        return float(getattr(self, field)) / self.jobs


def measure_depth(depths: Sequence[int], progress: Progress) -> Report:
    """Cost per job of one row, its round trips and transactions, at each depth."""
    progress.expect((TURNS + 1) * len(depths))
    taken: dict[int, list[Taken]] = {depth: [] for depth in depths}
    with ExitStack() as undo:
        # Each has services and a worker of its own, all held but the one whose turn it is.
        queues = {
            depth: _Queue(undo.enter_context(rig({"noop": MODELS / "noop"})), depth)
            for depth in sorted(depths, reverse=True)
        }
        for turn in range(TURNS + 1):
            for depth, queue in queues.items():
                progress.step(f"{depth:,} queued: {f'{turn} of {TURNS}' if turn else 'warm-up'}")
                cost = queue.turn()
                if turn:
                    say(f"{depth:,}: {1e6 * cost.per_job('seconds'):.0f} µs a job")
                    taken[depth].append(cost)
    return _report(taken)


COLUMNS = (
    "queued",
    "n",
    "µs per job",
    "÷ the shortest",
    "worker's CPU µs per job",
    "writing transactions per job",
    "Redis trips per job",
)


def _report(taken: Mapping[int, Sequence[Taken]]) -> Report:
    report = Report("scale-depth", COLUMNS, kind="bench", raw={str(depth): of for depth, of in taken.items()})
    shortest = taken[min(taken)]
    for depth, of in sorted(taken.items()):
        ratios = [a.per_job("seconds") / b.per_job("seconds") for a, b in zip(of, shortest, strict=True)]
        micros = (spread([1e6 * run.per_job(field) for run in of]) for field in ("seconds", "cpu_s"))
        counts = (statistics.median(run.per_job(field) for run in of) for field in ("transactions", "trips"))
        seconds, cpu_s = micros
        report.row(f"{depth:,}", len(of), seconds, spread(ratios), cpu_s, *counts)
    report.notes.append(
        f"Jobs of one row, each with its own database row. A worker is let go for {TURN_S:g} s a turn, and a "
        "queue that is empty sooner is filled up meanwhile; what the worker has in hand counts as queued."
    )
    return report


class _Queue:
    """Fills a queue by the storage layer, in bunches, and lets its worker take some."""

    def __init__(self, bench: Rig, depth: int) -> None:
        self._bench = bench
        self._depth = depth
        self._jobs = JobRepository(Database(bench.settings.database_url))
        self._publisher = Publisher(bench.settings.redis_url)
        self._block = encode_rows([1.0])
        self._made = 0
        self._add(WARM_UP)
        worker = bench.the_worker()
        wait_for(lambda: bench.finished() == WARM_UP, "the warm-up has run")
        worker.freeze()
        self._settled = WARM_UP
        self._fill()

    def turn(self) -> Taken:
        """Let the worker go for a while; a queue that is empty sooner is filled up in between."""
        cost = Taken()
        while cost.seconds < TURN_S:
            cost += self._take(TURN_S - cost.seconds)
            self._fill()
        return cost

    def _take(self, within_s: float) -> Taken:
        bench, worker = self._bench, self._bench.the_worker()
        transactions, trips = int(bench.value(TRANSACTIONS)), redis_count(bench.redis)
        with used_by(worker.pid) as usage:
            began = time.perf_counter()
            worker.thaw()
            while (seconds := time.perf_counter() - began) < within_s and not self._drained():
                time.sleep(POLL_S)
            worker.freeze()
        time.sleep(COMMITTED_S)
        spent = redis_count(bench.redis) - trips
        transactions = int(bench.value(TRANSACTIONS)) - transactions
        settled = bench.finished() - self._settled
        self._settled += settled
        return Taken(settled, seconds, usage.cpu_s, transactions, spent.reads)

    def _drained(self) -> bool:
        # By the indexes of those that wait and those that run: to count would cost the worker.
        return self._depth < SHORT and not self._bench.value(ANY_LEFT)

    def _fill(self) -> None:
        self._add(self._depth - (self._made - self._settled))
        self._bench.ask("CHECKPOINT")

    def _add(self, count: int) -> None:
        self._made += count
        for start in range(0, count, AT_ONCE):
            ids = new_ids(min(AT_ONCE, count - start))
            at = self._jobs.insert(
                [NewJob(id=id, model="noop", version=1, rows=1, input=self._block) for id in ids]
            )
            due = [Due(id, "noop", 1, 1, Priority.STANDARD) for id in ids]
            self._publisher.publish(pack(due, at.timestamp())).close()


def measure_million(progress: Progress) -> Report:
    """Resident memory of hub and engine while a million items pass, and of a Celery worker beside them."""
    parts = MILLION // PART
    progress.expect(2 * parts)
    columns = ["items passed", "RSS of hub + engine, MiB", "items/s", "RSS of Celery, MiB", "its items/s"]
    report = Report("scale-million", columns, kind="bench")
    with rig({"mlp": MODELS / "mlp"}) as bench:
        ours = Shunter("Shunter", "submit_many", "mlp", many("mlp"))
        theirs = packed()
        for contestant in (ours, theirs):
            contestant.prepare(bench)
        for part in range(parts):
            cells: list[object] = [f"{(part + 1) * PART:,}"]
            for contestant in (ours, theirs):
                progress.step(f"{contestant.name}: {part + 1} of {parts} times {PART:,} items")
                bench.level()
                run = contestant.run(PART // contestant.step * contestant.step)
                cells += [f"{run.rss_bytes / 2**20:.0f}", run.rate]
            report.row(*cells)
    report.notes.append(f"The MLP, rows of 128 floats; RSS is the highest while {PART:,} items pass.")
    report.notes.append(f"{theirs.name}: {theirs.settings}.")
    return report
