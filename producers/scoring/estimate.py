"""What a scoring will cost, before anything is stored: rows from a look, seconds from measured rates."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Rows of an input, exact unless it is text; workers that serve the model, and the rate of one.

    The rate is what the workers measured last, 0 if none has run the model yet.
    """

    model: str
    version: int
    files: int
    rows: int
    exact: bool
    chunk_rows: int
    workers: int
    rows_per_s: float

    @property
    def seconds(self) -> float | None:
        """How long it takes with these workers; None if nobody can say."""
        rate = self.workers * self.rows_per_s
        return self.rows / rate if rate else None

    def workers_for(self, seconds: float) -> int | None:
        """How many workers it takes to end within so many seconds; None if nobody can say."""
        return math.ceil(self.rows / self.rows_per_s / seconds) if self.rows_per_s else None

    def lines(self) -> Iterator[str]:
        """For people."""
        about = "" if self.exact else "about "
        yield f"{about}{self.rows} rows in {self.files} files, for {self.model} version {self.version}"
        if self.seconds is None:
            why = (
                "no worker serves it"
                if not self.workers
                else "no worker has run it yet: submit a few rows first"
            )
            yield f"how long that takes is not known: {why}"
            return
        yield f"{self.seconds:.0f} s with {self.workers} workers of {self.rows_per_s:.0f} rows/s each"
        for minutes in (1, 10, 60):
            yield f"{self.workers_for(60 * minutes)} workers end it within {minutes} min"
