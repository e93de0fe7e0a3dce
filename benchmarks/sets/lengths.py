"""Texts of mixed lengths through the encoder: the fleet, and loops with fixed batches in arrival order."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.contest import Contestant, Plan, contest, rates_report
from benchmarks.contestants.padding import padding_noted, write_noted_encoder
from benchmarks.contestants.raw import RawLoop
from benchmarks.contestants.shunter import Shunter, jobs_of
from benchmarks.models import mixed_rows
from benchmarks.plots import rates_plot
from benchmarks.progress import Progress
from benchmarks.report import Report
from benchmarks.rig import MODELS, Rig, rig

MINE = "Shunter"
RUN_S, QUICK_RUN_S = 15.0, 4.0
COMPARED = 512
"""Rows whose outputs are compared with those of the model alone."""


def contestants(saved: Path | None = None) -> list[Contestant]:
    """The fleet with jobs of 256 texts, and two fixed batch sizes."""
    return [
        Shunter(
            MINE, "jobs of 256 texts", "encoder", jobs_of("encoder", 256), mixed_rows, first=512, step=256
        ),
        RawLoop("fixed batches of 256", "encoder", 256, rows="mixed", first=256, step=256),
        RawLoop("batches of 32 in arrival order", "encoder", 32, rows="mixed", first=256, step=256),
        RawLoop("one by one", "encoder", 1, rows="mixed", first=256, step=256, save=saved),
    ]


def measure(plan: Plan, progress: Progress) -> Sequence[Report]:
    """Rates, padding, and whether the outputs are the same."""
    plan = replace(plan, seconds=QUICK_RUN_S if plan.quick else RUN_S)
    with tempfile.TemporaryDirectory(prefix="shunter-bench-") as own:
        notes, saved = Path(own) / "notes", Path(own) / "alone.npy"
        model = write_noted_encoder(Path(own) / "encoder", MODELS / "encoder", notes)
        entered = contestants(saved)
        with rig({"encoder": model}) as bench:
            runs = contest(bench, entered, plan, progress)
            report = rates_report("lengths", runs, MINE, entered)
            report.notes.append(f"Padding, Shunter: {padding_noted(notes):.1%}.")
            for name in list(runs)[1:]:
                report.notes.append(f"Padding, {name}: {runs[name][-1].extra['padding']:.1%}.")
            report.notes.append(_difference(bench, np.load(saved)))
    rates_plot("lengths", "Texts of 2 to 64 tokens through the encoder", runs)
    return [report]


def _difference(bench: Rig, alone: np.ndarray) -> str:
    """How far the outputs of the fleet are from those of rows that were run one by one."""
    rows = mixed_rows(len(alone))[:COMPARED]
    served = np.stack([np.asarray(output) for output in bench.client().submit("encoder", rows).outputs()])
    largest = float(np.abs(served - alone[: len(rows)]).max())
    return f"Outputs of {len(rows)} rows: the largest difference from those run one by one is {largest:.1e}."
