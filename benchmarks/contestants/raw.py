"""The limit: the same model in one process, in a loop over rows in memory, without anything around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.contestants.child import as_run, run_child
from benchmarks.figures import Run
from benchmarks.rig import Rig

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass
class RawLoop:
    """Batches of one size, in the order of the rows; the size that is fastest here, unless it is given.

    `most` bounds the sizes tried; `rows` is "alike" or "mixed": texts of many lengths, padded to the longest.
    """

    name: str
    model: str
    batch: int = 0
    most: int = 1024
    rows: str = "alike"
    first: int = 256
    step: int = 1
    save: Path | None = None
    swept: dict[int, float] = field(default_factory=dict)
    """Rows a second by size, once tried."""
    _bench: Rig = field(init=False, repr=False)

    @property
    def settings(self) -> str:
        """How it is set."""
        tried = ", ".join(f"{size}: {rate:,.0f}/s" for size, rate in self.swept.items())
        return f"one process, one thread, batches of {self.batch}" + (f" (tried {tried})" if tried else "")

    def prepare(self, bench: Rig) -> None:
        self._bench = bench
        if not self.batch:
            self.swept = self._sweep([size for size in SIZES if size <= self.most])
            self.batch = max(self.swept, key=self.swept.__getitem__)

    def run(self, items: int) -> Run:
        saved = [self.save] if self.save else []
        told = run_child(self._bench, "raw_loop", self.model, self.rows, items, self.batch, *saved)
        return as_run(told)

    def _sweep(self, sizes: Sequence[int]) -> dict[int, float]:
        told = run_child(self._bench, "raw_loop", self.model, "sweep", *sizes)
        return {int(size): rate for size, rate in told["rates"].items()}
