"""How long a batch takes: seconds = overhead + work / throughput, learnt from batches; no clock."""

from __future__ import annotations

from typing import Any

FADING = 0.97
"""Weight of all earlier batches in the fit, for each new one."""

LEAST_FITTED = 5
"""Batches before a fit is believed."""

OUTLIER = 4.0
"""A batch so many times slower or faster than predicted counts as if it had been just that."""


class Fit:
    """seconds = overhead + work / throughput, for one kind of batch."""

    def __init__(self) -> None:
        self.batches = 0
        self.error = 0.0
        self._sums = [0.0] * 5

    @property
    def known(self) -> bool:
        """Whether it has seen enough to be believed."""
        return self.batches >= LEAST_FITTED

    def add(self, work: float, seconds: float) -> None:
        """Learn from one batch."""
        usual_s = seconds
        if self.known:
            usual_s = self.seconds(work)
            self.error += 0.1 * (abs(seconds / usual_s - 1) - self.error)
            seconds = min(max(seconds, usual_s / OUTLIER), usual_s * OUTLIER)
        self.batches += 1
        # Divided by what is usual, a long batch weighs as much as a short one. Divided by what it took, a
        # slow batch would weigh less than a fast one, and on a busy machine the line lay far below the mean.
        weight = 1 / usual_s**2
        new = (weight, work * weight, work**2 * weight, seconds * weight, work * seconds * weight)
        self._sums = [FADING * old + term for old, term in zip(self._sums, new, strict=True)]

    def line(self) -> tuple[float, float]:
        """Overhead in seconds, and seconds per work; neither is negative."""
        s, sx, sxx, sy, sxy = self._sums
        spread = s * sxx - sx * sx
        if spread <= 1e-6 * s * sxx:
            return 0.0, sxy / sxx
        overhead, slope = (sxx * sy - sx * sxy) / spread, (s * sxy - sx * sy) / spread
        if overhead < 0:
            return 0.0, sxy / sxx
        return (overhead, slope) if slope >= 0 else (sy / s, 0.0)

    def seconds(self, work: float) -> float:
        """What a batch takes."""
        overhead, slope = self.line()
        return overhead + slope * work

    def document(self) -> dict[str, Any]:
        """The JSON form; throughput in work per second, None if more work took no longer."""
        overhead, slope = self.line()
        return {
            "overhead_s": round(overhead, 6),
            "throughput": round(1 / slope, 1) if slope else None,
            "error": round(self.error, 3),
            "batches": self.batches,
        }
