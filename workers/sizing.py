"""How large a batch should be, and how long it takes, by bucket; pure, without a clock.

Work is what the model pays for: rows, or tokens with their padding. Each bucket has a fit of its latency and
a search for its size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import attrgetter
from typing import Any

from shunter.workers.batch import Timing
from shunter.workers.latency_fit import Fit
from shunter.workers.lengths import length_of
from shunter.workers.size_search import TOLERANCE, Search

BUCKET = attrgetter("bucket")

START_ROWS = 8
"""The first size that is tried."""

HANDLING_S = 0.0003
"""What a batch costs the engine besides the forward: locks, announcements, threads that take turns."""

ASSUMED_OVERHEAD = 256
"""While nobody knows what a batch costs besides its work, it is taken to be so many tokens."""

FITTED_PARTS = (0.25, 0.5, 1.0, 1.0, 1.0)
"""A fit that was told is learnt again at these parts of the best size, which are enough to believe it."""

LEAST_S = 1e-6

USUAL_WEIGHT = 0.2
"""Weight of the latest batch in what batches usually take."""


class Sizing:
    """Costs by bucket. A bucket of lengths that has seen little borrows from the nearest that is settled."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._searches: dict[str, Search] = {}
        self._fits: dict[str, Fit] = {}
        self._lengths: dict[str, int] = {}
        self._all = Fit()
        self._usual_s = 0.0

    @classmethod
    def of(cls, max_rows: int, document: Mapping[str, Any]) -> Sizing:
        """What a worker has told of its costs and sizes, to go on from."""
        sizing = cls(max_rows)
        for bucket, facts in document.items():
            length = length_of(bucket)
            sizing._lengths[bucket] = length
            sizing._searches[bucket] = Search(max_rows, start=facts["rows"], settled=facts["settled"])
            overhead, throughput = facts["overhead_s"], facts["throughput"]
            for part in FITTED_PARTS:
                work = part * facts["rows"] * (length or 1)
                seconds = overhead + (work / throughput if throughput else 0.0)
                for fit in (sizing._fits.setdefault(bucket, Fit()), sizing._all):
                    fit.add(work, max(seconds, LEAST_S))
        return sizing

    def rows(self, bucket: str, length: int = 0) -> int:
        """How many rows a batch should have; `length` is what they are padded to, 0 without lengths."""
        return self._search(bucket, length).rows()

    def rows_at_least(self, bucket: str, length: int = 0) -> int:
        """The same, but no fewer than are best as far as is known: only more are tried."""
        search = self._search(bucket, length)
        return max(search.base, search.rows())

    def add(self, bucket: str, *, rows: int, length: int, work: float, seconds: float) -> None:
        """Learn from a batch that went through the model whole and undisturbed."""
        if seconds <= 0 or work <= 0:
            return
        self._fits.setdefault(bucket, Fit()).add(work, seconds)
        self._all.add(work, seconds)
        self._usual_s += (seconds - self._usual_s) * (USUAL_WEIGHT if self._usual_s else 1.0)
        self._search(bucket, length).add(rows, (seconds + HANDLING_S) / work)

    def warmed(self, timings: Iterable[Timing]) -> None:
        """Begin at the sizes that were best in a warm-up, instead of climbing to them."""
        for bucket, group in groupby(sorted(timings, key=BUCKET), key=BUCKET):
            measured = list(group)
            costs = {timing.rows: (timing.seconds + HANDLING_S) / timing.rows for timing in measured}
            least = min(costs.values())
            start = min(rows for rows, cost in costs.items() if cost <= least * (1 + TOLERANCE))
            self._searches[bucket] = Search(self._max_rows, start=start)
            self._lengths[bucket] = measured[0].pad_to

    def seconds(self, bucket: str, work: float) -> float:
        """How long a batch takes; of a bucket hardly seen, as all buckets together do; 0 if nobody knows."""
        fit = self._fits.get(bucket)
        fit = fit if fit is not None and fit.known else self._all
        return fit.seconds(work) if fit.known else 0.0

    def least_seconds(self) -> float:
        """What a batch of the least work takes; 0 if nobody knows."""
        return self._all.seconds(1) if self._all.known else 0.0

    def overhead_work(self) -> float:
        """What a batch costs besides its work, as so much work."""
        overhead, slope = self._all.line() if self._all.known else (0.0, 0.0)
        return (overhead + HANDLING_S) / slope if slope else ASSUMED_OVERHEAD

    def usual_seconds(self) -> float:
        """What batches took lately, of whatever size."""
        return self._usual_s

    def document(self) -> dict[str, Any]:
        """The JSON form, by bucket: the fit, the size chosen, and what other sizes cost beside it."""
        return {
            bucket: {
                **self._fits[bucket].document(),
                "rows": search.base,
                "settled": search.settled,
                "relative_cost": {
                    str(rows): round(ratio, 3) for rows, ratio in sorted(search.ratios().items())
                },
            }
            for bucket, search in sorted(self._searches.items())
            if bucket in self._fits
        }

    def _search(self, bucket: str, length: int) -> Search:
        search = self._searches.get(bucket)
        if search is None:
            search = self._searches[bucket] = self._new_search(length)
            self._lengths[bucket] = length
        return search

    def _new_search(self, length: int) -> Search:
        known = [
            (abs(math.log(other / length)), other, self._searches[name].base)
            for name, other in self._lengths.items()
            if length and other and self._searches[name].settled
        ]
        if not known:
            return Search(self._max_rows, start=START_ROWS)
        _, other, base = min(known)
        return Search(self._max_rows, start=round(base * other / length), settled=True)
