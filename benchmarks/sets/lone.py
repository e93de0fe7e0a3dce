"""One job on an idle, warm fleet, submit until its result is readable, beside a stock Celery task."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Mapping, Sequence

from benchmarks.contest import Plan
from benchmarks.contestants.celery import KNOWN, sender, stock
from benchmarks.contestants.shunter import ENDED
from benchmarks.models import sample_rows
from benchmarks.plots import bars_plot
from benchmarks.progress import Progress
from benchmarks.report import Report, percentile
from benchmarks.rig import MODELS, Rig, rig

STOCK = "stock Celery task, its result by one INSERT"
POLL_S = 0.001
PAUSE_S = 0.02, 0.2
WARM_UP = 10
JOBS, QUICK_JOBS = 300, 60


STAGES = """
SELECT extract(epoch FROM enqueued_at)::float8, extract(epoch FROM started_at)::float8,
    extract(epoch FROM forward_at)::float8, extract(epoch FROM finished_at)::float8
FROM jobs WHERE id = %s::uuid
"""
NAMES = (
    "submit until its transaction begins",
    "insert, push, fetch, until the claim begins",
    "claim, hand-over, decode, gather, until the forward begins",
    "forward, finish, hand-over, until the settlement begins",
    "settlement, until the result is seen",
)


def measure(plan: Plan, progress: Progress) -> Sequence[Report]:
    """Milliseconds, each way in turn, with random pauses; and of our own jobs, stage by stage."""
    jobs = QUICK_JOBS if plan.quick else JOBS
    progress.expect(jobs)
    source = random.Random(1)
    with rig({"mlp": MODELS / "mlp"}) as bench:
        ways = _ways(bench)
        times: dict[str, list[float]] = {name: [] for name in ways}
        stages: list[Sequence[float]] = []
        for number in range(-WARM_UP, jobs):
            if number >= 0:
                progress.step("lone jobs")
            for name, way in ways.items():
                time.sleep(source.uniform(*PAUSE_S))
                at, began = time.time(), time.perf_counter()
                job = way()
                taken = time.perf_counter() - began
                if number >= 0:
                    times[name].append(1000 * taken)
                    stages += _stages(bench, job, at, at + taken) if job else []
    bars_plot("lone", "A lone job, submit until its result is readable", "ms", times)
    return [_report(times), _stages_report(stages)]


def _stages(bench: Rig, job: str, began: float, ended: float) -> list[Sequence[float]]:
    """The ms between the moments of a job, by the one clock of this machine."""
    moments = [began, *bench.ask(STAGES, job)[0], ended]
    return [[1000 * (after - before) for before, after in itertools.pairwise(moments)]]


def _ways(bench: Rig) -> Mapping[str, Callable[[], str]]:
    """Each returns the id of its job, or nothing if it is none of ours."""
    bench.the_worker()
    stock().prepare(bench)
    client, app = bench.client(), sender(bench)
    row = sample_rows("mlp", 1)[0]
    floats = row.tolist()

    def until(statement: str, id: str) -> None:
        while not any(value for (value,) in bench.ask(statement, id)):
            time.sleep(POLL_S)

    def selected() -> str:
        job = client.submit("mlp", [row])
        until(ENDED, job.id)
        return job.id

    def waited() -> str:
        job = client.submit("mlp", [row])
        job.outputs()
        return job.id

    def stocked() -> str:
        until(KNOWN, app.send_task("one", (floats,), queue="stock").id)
        return ""

    return {
        "Shunter, submit; select": selected,
        "Shunter, submit(...).outputs()": waited,
        STOCK: stocked,
    }


def _report(times: Mapping[str, list[float]]) -> Report:
    report = Report(
        "lone", ["way", "n", "p50 ms", "p99 ms", "p50 ÷ stock Celery"], kind="bench", raw=dict(times)
    )
    theirs = percentile(times[STOCK], 0.5)
    for name, of in times.items():
        p50 = percentile(of, 0.5)
        report.row(name, len(of), p50, percentile(of, 0.99), p50 / theirs)
    report.notes.append(
        "Both results are on disk when they can be seen: Postgres with fsync and synchronous_commit on."
    )
    report.notes.append(
        f"The MLP, one row of 128 floats; pauses of {PAUSE_S[0]} to {PAUSE_S[1]} s; `select` asks Postgres "
        "every ms, for both alike."
    )
    return report


def _stages_report(stages: Sequence[Sequence[float]]) -> Report:
    report = Report("lone_stages", ["stage", "p50 ms", "p99 ms"], kind="bench", raw={"ms": list(stages)})
    for name, of in zip(NAMES, zip(*stages, strict=True), strict=True):
        report.row(name, percentile(of, 0.5), percentile(of, 0.99))
    report.notes.append(
        "The moments are those that Postgres keeps of each job, both ways of waiting together."
    )
    return report
