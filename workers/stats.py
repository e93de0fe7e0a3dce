"""Counters of what a worker's batches were like: served with its heartbeat; pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from shunter.workers.messages import BatchDone

SMOOTHING = 0.2
"""Weight of the latest batch in the measured rate."""


@dataclass(slots=True)
class BatchStats:
    """All batches of one model version on one worker, and its measured rate in rows per second."""

    batches: int = 0
    rows: int = 0
    forwards: int = 0
    ooms: int = 0
    seconds: Counter[str] = field(default_factory=Counter)
    sizes: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    rows_per_s: float = 0.0

    def add(self, batch: BatchDone) -> None:
        """Count one batch."""
        self.batches += 1
        self.rows += batch.rows
        self.forwards += batch.forwards
        self.ooms += batch.ooms
        self.sizes[batch.rows] += 1
        self.reasons[batch.reason] += 1
        for stage in ("wait", "preprocess", "forward", "postprocess"):
            self.seconds[stage] += getattr(batch, f"{stage}_s")
        if batch.forward_s > 0:
            rate = batch.rows / batch.forward_s
            self.rows_per_s += (rate - self.rows_per_s) * (SMOOTHING if self.rows_per_s else 1.0)

    def document(self) -> dict[str, Any]:
        """The JSON form; `sizes` maps rows in a batch to how many batches had so many."""
        return {
            "batches": self.batches,
            "rows": self.rows,
            "forwards": self.forwards,
            "out_of_memory": self.ooms,
            "rows_per_s": round(self.rows_per_s, 1),
            "seconds": {stage: round(seconds, 6) for stage, seconds in self.seconds.items()},
            "sizes": {str(size): count for size, count in sorted(self.sizes.items())},
            "reasons": dict(self.reasons),
        }
