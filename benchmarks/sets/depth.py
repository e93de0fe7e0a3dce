"""Whether a long queue costs: jobs taken from queues of ten thousand to a million, and a million items."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from benchmarks.contestants.shunter import ENDED, many, wait_until_settled
from benchmarks.progress import Progress
from benchmarks.report import Report
from benchmarks.rig import MODELS, Rig, redis_count, rig, say, wait_for
from benchmarks.usage import rss_bytes, used_by
from shunter.producers.publisher import Publisher
from shunter.storage.database import Database
from shunter.storage.envelope import Due, pack
from shunter.storage.ids import new_ids
from shunter.storage.job import NewJob, Priority
from shunter.storage.job_repository import JobRepository
from shunter.storage.payload import encode_rows

MEASURED = 5000
"""Jobs taken and settled at each depth, the queue being filled up to it before each run."""

RUNS = 3
AT_ONCE = 5000
MILLION, PART = 1_000_000, 100_000

TRANSACTIONS = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
"""The number of the next transaction that writes; looking takes none."""

SETTLED = "SELECT count(*) FROM jobs WHERE finished_at > %s"


@dataclass(frozen=True, slots=True)
class Taken:
    """What it cost to take some jobs off a queue of some depth."""

    depth: int
    jobs: int
    seconds: float
    cpu_s: float
    transactions: int
    trips: int


def measure_depth(depths: Sequence[int], progress: Progress) -> Report:
    """Cost per job of one row, its round trips and transactions, at each depth."""
    progress.expect(RUNS * len(depths))
    columns = [
        "queued",
        "n",
        "µs per job",
        "worker CPU µs per job",
        "writing transactions per job",
        "Redis trips per job",
    ]
    report = Report("scale-depth", columns, kind="bench")
    taken: dict[int, list[Taken]] = {depth: [] for depth in depths}
    with rig({"noop": MODELS / "noop"}) as bench:
        queue = _Queue(bench)
        worker = bench.the_worker()
        queue.fill(256)
        wait_for(lambda: bench.finished() >= 256, "the warm-up has run")
        worker.freeze()
        bench.level()
        queue.forget()
        for depth in depths:
            for number in range(RUNS):
                progress.step(f"{depth:,} queued: {number + 1} of {RUNS}")
                queue.fill(depth - queue.left)
                bench.ask("CHECKPOINT")
                taken[depth].append(queue.take(depth))
    for depth, of in taken.items():
        report.row(
            f"{depth:,}",
            len(of),
            *(
                statistics.median(scale * getattr(run, field) / run.jobs for run in of)
                for field, scale in (("seconds", 1e6), ("cpu_s", 1e6), ("transactions", 1), ("trips", 1))
            ),
        )
    report.notes.append(
        f"Jobs of one row, each with its own database row. The worker is held while the queue is filled, "
        f"let go until about {MEASURED:,} are settled, and held again."
    )
    report.raw = {str(depth): of for depth, of in taken.items()}
    return report


class _Queue:
    """Fills the queue by the storage layer, in bunches, and lets the worker take some."""

    def __init__(self, bench: Rig) -> None:
        self._bench = bench
        self._jobs = JobRepository(Database(bench.settings.database_url))
        self._publisher = Publisher(bench.settings.redis_url)
        self._block = encode_rows([1.0])
        self._ids: deque[UUID] = deque()

    @property
    def left(self) -> int:
        """How many wait, as far as is known here."""
        return len(self._ids)

    def forget(self) -> None:
        """Begin anew, after all have been settled."""
        self._ids.clear()

    def fill(self, count: int) -> None:
        """So many jobs more."""
        for start in range(0, count, AT_ONCE):
            ids = new_ids(min(AT_ONCE, count - start))
            at = self._jobs.insert(
                [NewJob(id=id, model="noop", version=1, rows=1, input=self._block) for id in ids]
            )
            due = [Due(id, "noop", 1, 1, Priority.STANDARD) for id in ids]
            self._publisher.publish(pack(due, at.timestamp())).close()
            self._ids += ids

    def take(self, depth: int) -> Taken:
        """Let the worker settle some jobs of a queue of this depth."""
        bench, worker = self._bench, self._bench.the_worker()
        # First in, first out: when this one has ended, as many have.
        last, began_at = str(self._ids[MEASURED]), bench.value("SELECT clock_timestamp()")
        transactions, trips = int(bench.value(TRANSACTIONS)), redis_count(bench.redis)
        with used_by(worker.pid) as usage:
            began = time.perf_counter()
            worker.thaw()
            wait_for(lambda: bench.value(ENDED, last), "the jobs are settled", within_s=120)
            seconds = time.perf_counter() - began
            worker.freeze()
        spent = redis_count(bench.redis) - trips
        settled = int(bench.value(SETTLED, began_at))
        transactions = int(bench.value(TRANSACTIONS)) - transactions
        for _ in range(settled):
            self._ids.popleft()
        say(f"{depth:,}: {1e6 * seconds / settled:.0f} µs a job")
        return Taken(depth, settled, seconds, usage.cpu_s, transactions, spent.reads)


def measure_million(progress: Progress) -> Report:
    """Resident memory of hub and engine while a million items pass."""
    parts = MILLION // PART
    progress.expect(parts)
    report = Report("scale-million", ["items passed", "RSS of hub + engine, MiB", "items/s"], kind="bench")
    with rig({"noop": MODELS / "noop"}) as bench:
        worker, client, submit = bench.the_worker(), bench.client(), many("noop")
        rows = [float(number) for number in range(PART)]
        for part in range(parts):
            progress.step(f"{part + 1} of {parts} times {PART:,} items")
            bench.level()
            began = time.perf_counter()
            wait_until_settled(bench, submit(client, rows), PART)
            rate = PART / (time.perf_counter() - began)
            report.row(f"{(part + 1) * PART:,}", f"{rss_bytes(worker.pid) / 2**20:.0f}", rate)
    return report
