"""A device of known memory: how often it runs out before the fleet knows, in all and after a restart."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contest import Plan
from benchmarks.contestants.shunter import DRAIN_WITHIN_S, ENDED, LEFT, SUCCEEDED, jobs_of
from benchmarks.progress import Progress
from benchmarks.report import Report
from benchmarks.rig import Rig, rig, wait_for

MAX_ROWS = 1024
JOBS, JOB_ROWS = 40, 1000
LIMITS = (5, 37, 200, 1000)

MODEL = """
import time
from pathlib import Path

class Model:
    def load(self, directory, device, log, limit):
        self.log, self.limit = Path(log), limit

    def length(self, row):
        return 16

    def forward(self, rows):
        # As long for a large batch as for a small one: so the size climbs until memory stops it.
        time.sleep(0.002)
        if len(rows) > self.limit:
            with self.log.open("a") as file:
                file.write("full\\n")
            raise MemoryError
        return rows
"""

UNCOUNTED = MODEL.replace(
    """    def length(self, row):
        return 16

""",
    "",
)
TOML = """
[batching]
max_rows = {}
[params]
limit = {}
log = "{}"
"""
CEILING = "SELECT rows FROM memory_ceilings ORDER BY rows LIMIT 1"


def measure(plan: Plan, progress: Progress) -> Sequence[Report]:
    """Each limit with a fleet of its own, which is restarted once."""
    kinds = {"rows": UNCOUNTED, "tokens": MODEL}
    columns = ["memory holds", "counted in", "rows lost", "out of memory", "bound", "ceiling kept"]
    columns.append("out of memory after a restart")
    report = Report("memory", columns, kind="bench")
    progress.expect(len(kinds) * len(LIMITS))
    for kind, source in kinds.items():
        for limit in LIMITS:
            progress.step(f"{limit} rows, counted in {kind}")
            report.row(f"{limit} rows", kind, *_limited(source, limit))
    report.notes.append(
        f"{JOBS} jobs of {JOB_ROWS} rows before and as many after the restart; max_rows {MAX_ROWS}. "
        "A lost row is one that did not succeed."
    )
    return [report]


def _limited(source: str, limit: int) -> tuple[int, int, int, int, int]:
    with tempfile.TemporaryDirectory(prefix="shunter-bench-") as own:
        log = Path(own) / "full"
        with rig({"limited": source}, TOML.format(MAX_ROWS, limit, log)) as bench:
            first, second = (_life(bench, name, log) for name in ("first", "second"))
            ceiling = int(bench.value(CEILING))
            lost = 2 * JOBS * JOB_ROWS - int(bench.value(SUCCEEDED))
    return lost, first, math.ceil(math.log2(MAX_ROWS)) + 2, ceiling, second


def _life(bench: Rig, name: str, log: Path) -> int:
    """A worker from its start to its end, and how often memory ran out meanwhile."""
    before = _lines(log)
    worker = bench.start_worker(name)
    submit = jobs_of("limited", JOB_ROWS)
    last = submit(bench.client(), [0] * (JOBS * JOB_ROWS))
    wait_for(lambda: bench.value(ENDED, str(last)), "the last job has ended", within_s=DRAIN_WITHIN_S)
    wait_for(lambda: not bench.value(LEFT), "every job has ended", within_s=DRAIN_WITHIN_S)
    worker.stop()
    return _lines(log) - before


def _lines(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0
