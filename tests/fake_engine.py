"""An engine without a process: rows in batches and probes as a hub's Suspicion asks, deaths counted."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from shunter.workers.isolation import Failure
from shunter.workers.spans import RowName, rows_of, spans_of
from shunter.workers.suspicion import Suspicion

VERDICT = Failure("engine_died", "it was this row")


class FakeEngine:
    """Dies of a batch with a bad row in it; what it had done by then is lost, and it begins anew.

    With `stages` 2 the batch that is prefetched is announced as well. `doomed` batches die for no
    reason. Between two rounds of probes it takes two batches, as a real engine does.
    """

    def __init__(
        self, rows: Sequence[RowName], bad: Collection[RowName], *, batch: int, stages: int = 1
    ) -> None:
        self.suspicion = Suspicion()
        self.rows = rows
        self.bad = set(bad)
        self.batch = batch
        self.stages = stages
        self.deaths = 0
        self.forwards = 0
        self.doomed = 0
        self.done: set[RowName] = set()

    def serve(self) -> None:
        """Start engines until every row has its result."""
        while not self._live():
            self.deaths += 1

    def _live(self) -> bool:
        """One engine's life; whether it served everything."""
        self.done = set()
        not_free = self._not_free()
        free = [row for row in self.rows if row not in not_free]
        while True:
            for _ in range(2):
                if not self._take_batch(free):
                    return False
            if not self._take_round():
                return False
            if not free and not any(self.suspicion.withheld(claim) for claim, _ in self.rows):
                return True

    def _not_free(self) -> set[RowName]:
        claims = {claim for claim, _ in self.rows}
        withheld = {
            (claim, index)
            for claim in claims
            for span in self.suspicion.withheld(claim)
            for index in range(*span)
        }
        return withheld | {(claim, index) for claim in claims for index in self.suspicion.guilty(claim)}

    def _take_batch(self, free: list[RowName]) -> bool:
        batch, prefetched = free[: self.batch], free[self.batch : self.stages * self.batch]
        del free[: self.batch]
        return self._run(batch, prefetched)

    def _take_round(self) -> bool:
        for probe in self.suspicion.next_round():
            if not self._run(rows_of(probe), []):
                return False
            self.suspicion.probed()
        return True

    def _run(self, rows: list[RowName], prefetched: list[RowName]) -> bool:
        if not rows:
            return True
        self.forwards += 1
        if self.doomed or self.bad & set(rows):
            self.doomed = max(0, self.doomed - 1)
            announced = [spans_of(group) for group in (rows, prefetched) if group]
            self.suspicion.died(announced, [], VERDICT)
            return False
        self.done.update(rows)
        return True
