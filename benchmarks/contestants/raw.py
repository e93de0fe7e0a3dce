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
    """Batches of one size, in the order of the rows; what is fastest here, unless the size is given.

    `most` bounds the sizes tried, each with every number of `threads`; `rows` is "alike" or "mixed": texts of
    many lengths, padded to the longest.
    """

    name: str
    model: str
    batch: int = 0
    most: int = 1024
    threads: Sequence[int] = (1,)
    rows: str = "alike"
    first: int = 256
    step: int = 1
    save: Path | None = None
    swept: dict[tuple[int, int], float] = field(default_factory=dict)
    """Rows a second by threads and size, once tried."""
    _bench: Rig = field(init=False, repr=False)

    @property
    def settings(self) -> str:
        """How it is set."""
        rates = self.swept.items()
        tried = ", ".join(f"{threads} x {size}: {rate:,.0f}/s" for (threads, size), rate in rates)
        best = f"one process, threads: {self.threads[0]}, batches of {self.batch}"
        return best + (f" (tried, threads x rows, {tried})" if tried else "")

    def prepare(self, bench: Rig) -> None:
        self._bench = bench
        if not self.batch:
            sizes = [size for size in SIZES if size <= self.most]
            for threads in self.threads:
                told = run_child(self._bench, "raw_loop", self.model, threads, "sweep", *sizes)
                self.swept.update(((threads, int(size)), rate) for size, rate in told["rates"].items())
            best, self.batch = max(self.swept, key=self.swept.__getitem__)
            self.threads = (best,)

    def run(self, items: int) -> Run:
        saved = [self.save] if self.save else []
        how = self.model, self.threads[0], self.rows
        return as_run(run_child(self._bench, "raw_loop", *how, items, self.batch, *saved))
