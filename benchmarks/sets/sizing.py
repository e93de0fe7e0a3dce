"""The size that is found by measurement beside every fixed size: on simulated costs, and on the encoder.

On the encoder the search runs for a while, then in turn with the fixed sizes, so that what slows the machine
slows all. Then the cost of a batch changes under its feet, and it is measured again.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence

from benchmarks.contest import Plan
from benchmarks.models import TOKENS, load_model, sample_rows
from benchmarks.progress import Progress
from benchmarks.report import Report, spread
from shunter.workers.lengths import bucket_name
from shunter.workers.sizing import Sizing
from tests.unit.test_sizing import CHANGES, CURVES, MAX_ROWS, Curve, best_cost, run

FIXED = (1, 2, 4, 8, 16, 32, 64)
SEARCH_S, QUICK_SEARCH_S = 50.0, 10.0
CHOSEN_BATCHES = 6
"""Batches of the search in each round of the comparison, duels included."""
ADDED_S = 0.3
"""What every batch costs more after the change, as if the model had moved behind a slow wire."""
BUCKET = bucket_name(TOKENS)

SIMULATED_RUNS, SIMULATED_BATCHES, AFTER_CHANGE = 60, 250, 600


def measure(plan: Plan, progress: Progress) -> Sequence[Report]:
    """Simulated curves, then the encoder before and after its cost changes."""
    progress.expect(3)
    progress.step("simulated costs")
    simulated = _simulated()
    encoder = Encoder()
    columns = ["cost", "n", "best fixed size", "size found", "found ÷ best, seconds a row"]
    report = Report("sizing-encoder", columns, kind="bench")
    for what, added_s in (("as it is", 0.0), (f"{1000 * ADDED_S:.0f} ms more for each batch", ADDED_S)):
        progress.step(f"the encoder, {what}")
        encoder.added_s = added_s
        encoder.search(QUICK_SEARCH_S if plan.quick else SEARCH_S)
        _compare(encoder, what, plan.repeats, report)
    return [simulated, report]


class Encoder:
    """Batches of the encoder in this process, with as many threads as torch takes by itself."""

    def __init__(self) -> None:
        import torch

        self.added_s = 0.0
        self.sizing = Sizing(max(FIXED))
        self._torch = torch
        self._model = load_model("encoder", threads=torch.get_num_threads())
        self._rows = sample_rows("encoder", max(FIXED))

    def search(self, seconds: float) -> None:
        """Batches of the sizes that the search asks for."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self.chosen()

    def chosen(self) -> tuple[int, float]:
        """One batch of the size asked for: its rows and seconds."""
        size = self.sizing.rows(BUCKET, TOKENS)
        seconds = self.fixed(size)
        self.sizing.add(BUCKET, rows=size, length=TOKENS, work=size * TOKENS, seconds=seconds)
        return size, seconds

    def fixed(self, size: int) -> float:
        """Seconds of one batch of this size."""
        began = time.perf_counter()
        with self._torch.inference_mode():
            self._model.forward(self._model.collate(self._rows[:size], pad_to=TOKENS)).numpy()
        time.sleep(self.added_s)
        return time.perf_counter() - began


def _compare(encoder: Encoder, what: str, repeats: int, report: Report) -> None:
    found: list[float] = []
    fixed: dict[int, list[float]] = {size: [] for size in FIXED}
    for _ in range(repeats):
        batches = [encoder.chosen() for _ in range(CHOSEN_BATCHES)]
        found.append(sum(seconds for _, seconds in batches) / sum(rows for rows, _ in batches))
        for size in FIXED:
            fixed[size].append(encoder.fixed(size) / size)
    costs = {size: statistics.median(each) for size, each in fixed.items()}
    best = min(costs, key=costs.__getitem__)
    ratios = [mine / theirs for mine, theirs in zip(found, fixed[best], strict=True)]
    size = encoder.sizing.document()[BUCKET]["rows"]
    report.row(what, repeats, best, size, spread(ratios))
    tried = ", ".join(f"{size}: {1 / cost:,.1f}/s" for size, cost in costs.items())
    report.notes.append(f"Fixed sizes, {what}: {tried}.")
    report.raw[what] = {"fixed": fixed, "found": found, "document": encoder.sizing.document()}


def _simulated() -> Report:
    report = Report(
        "sizing-simulated", ["cost of a batch", "found ÷ best, mean", "worst of all runs"], kind="bench"
    )
    for name, curve in CURVES.items():
        _tell(report, name, [_ratio(curve, seed) for seed in range(SIMULATED_RUNS)])
    for before, after in CHANGES:
        ratios = [_ratio(CURVES[after], seed, before=CURVES[before]) for seed in range(SIMULATED_RUNS)]
        _tell(report, f"{before}, then {after}", ratios)
    report.notes.append(
        f"{SIMULATED_RUNS} runs, noise 10 %: {SIMULATED_BATCHES} batches after as many of search; where the "
        f"cost changes, after {SIMULATED_BATCHES} batches of the first and {AFTER_CHANGE} of the second."
    )
    return report


def _tell(report: Report, name: str, ratios: Sequence[float]) -> None:
    report.row(name, f"{statistics.mean(ratios):.3f}", f"{max(ratios):.3f}")


def _ratio(curve: Curve, seed: int, *, before: Curve | None = None) -> float:
    chance, sizing = random.Random(seed), Sizing(MAX_ROWS)
    if before is not None:
        run(sizing, before, SIMULATED_BATCHES, chance)
    run(sizing, curve, AFTER_CHANGE if before is not None else SIMULATED_BATCHES, chance)
    return run(sizing, curve, SIMULATED_BATCHES, chance) / best_cost(curve)
