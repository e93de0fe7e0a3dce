"""A device of known memory: how often it runs out before the fleet knows, in all and after a restart."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contest import Plan
from benchmarks.contestants.shunter import DRAIN_WITHIN_S, LEFT
from benchmarks.progress import Progress
from benchmarks.report import Report
from benchmarks.rig import Rig, rig, wait_for

MAX_ROWS = 1024
JOBS, JOB_ROWS = 20, 1000
LIMITS = (5, 37, 200, 1000)
TOKENS = 16

BY_ROWS = """
import time
from pathlib import Path

class Model:
    def load(self, directory, device):
        self.log = Path("LOG")

    def forward(self, rows):
        # As long for a large batch as for a small one: so the size climbs until memory stops it.
        time.sleep(0.002)
        if len(rows) > LIMIT:
            with self.log.open("a") as file:
                file.write("full\\n")
            raise MemoryError
        return rows
"""
BY_TOKENS = f"{BY_ROWS}\n    def length(self, row):\n        return {TOKENS}\n"
KINDS = {"rows": BY_ROWS, "tokens": BY_TOKENS}
TOML = f"[batching]\nmax_rows = {MAX_ROWS}\n"

CEILINGS = "SELECT model, rows FROM memory_ceilings"
SUCCEEDED = "SELECT model, sum(rows_succeeded) FROM jobs GROUP BY 1"


def measure(plan: Plan, progress: Progress) -> Sequence[Report]:
    """A fleet that serves a model of each kind and limit, twice."""
    progress.expect(2)
    with tempfile.TemporaryDirectory(prefix="shunter-bench-") as own:
        models = {
            f"{kind}-{limit}": source.replace("LIMIT", str(limit)).replace("LOG", f"{own}/{kind}-{limit}")
            for kind, source in KINDS.items()
            for limit in LIMITS
        }
        with rig(models, TOML) as bench:
            lives = []
            for name in ("first", "second"):
                progress.step(f"the {name} worker")
                _live(bench, name, list(models))
                lives.append({model: _lines(Path(own) / model) for model in models})
            ceilings, succeeded = dict(bench.ask(CEILINGS)), dict(bench.ask(SUCCEEDED))
    columns = ["memory holds", "counted in", "rows lost", "out of memory", "bound", "ceiling kept"]
    report = Report("memory", [*columns, "out of memory after a restart"], kind="bench")
    bound = math.ceil(math.log2(MAX_ROWS)) + 2
    for model in models:
        kind, limit = model.split("-")
        first, second = (life[model] for life in lives)
        lost = 2 * JOBS * JOB_ROWS - int(succeeded[model])
        report.row(f"{limit} rows", kind, lost, first, bound, ceilings[model], second - first)
    report.notes.append(
        f"{JOBS} jobs of {JOB_ROWS} rows for each model, as many after the worker was restarted; max_rows "
        f"{MAX_ROWS}. A lost row is one that did not succeed."
    )
    return [report]


def _live(bench: Rig, name: str, models: Sequence[str]) -> None:
    """A worker from its start to its end, with work for every model."""
    worker, client = bench.start_worker(name), bench.client()
    for _ in range(JOBS):
        for model in models:
            client.submit(model, [0] * JOB_ROWS)
    wait_for(lambda: not bench.value(LEFT), "every job has ended", within_s=DRAIN_WITHIN_S)
    worker.stop()


def _lines(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0
