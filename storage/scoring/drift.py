"""Whether a column is as it was: two distances between sketches, each with the least that counts; pure.

The population stability index (PSI) is the symmetric Kullback-Leibler divergence of two binned shares, with
bins that hold a tenth of the reference each. By custom 0.1 is some change, 0.2 is much. Where both are drawn
from one distribution, PSI / (1/n + 1/m) is about chi-square distributed, with one degree of freedom less than
bins (Yurdakul, Statistical Properties of Population Stability Index, 2018): so few rows need more to count.

The Kolmogorov-Smirnov distance is the largest difference of two cumulative shares. By chance it exceeds
c * sqrt((n + m) / (n * m)) with c = sqrt(-ln(alpha / 2) / 2) in a share alpha of cases (Smirnov, 1948); with
many rows any difference does, so it must be as large as LEAST_KS as well. The sketches' errors come on top.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from shunter.storage.scoring.sketches import RANK_ERROR, ColumnSketch, Measure, Sketches, Values

LEAST_PSI, LEAST_KS = 0.2, 0.1

ALPHA = 0.01
"""The chance that anything is called drifted when nothing has changed: shared by all tests of a side."""

BINS, MOST_VALUES = 10, 20

ROUNDING, SINGLE_ROUNDING = 1e-12, 1e-6
"""Means and spreads this much of their size apart are the same; the latter is for lists of 32-bit floats."""

KS_POINTS = 256
"""At so many quantiles of each side the cumulative shares are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """How far a column is from its reference, in one respect; the limits are what counts as drifted."""

    of: str
    psi: float
    psi_limit: float
    ks: float | None = None
    ks_limit: float | None = None

    @property
    def drifted(self) -> bool:
        """Whether it is too far."""
        far = self.ks is not None and self.ks_limit is not None and self.ks > self.ks_limit
        return far or self.psi > self.psi_limit


def compare(now: Sketches, reference: Sketches) -> dict[str, list[Distance]]:
    """The distances of each column that both have."""
    shared = [name for name in now if name in reference]
    tests = max(1, sum(_tests(now[name], reference[name]) for name in shared))
    return {name: list(_distances(now[name], reference[name], ALPHA / tests)) for name in shared}


def _tests(now: ColumnSketch, reference: ColumnSketch) -> int:
    measures = now.measures.keys() & reference.measures.keys()
    return 1 + 2 * len(measures) + (now.values is not None and reference.values is not None)


def _distances(now: ColumnSketch, reference: ColumnSketch, alpha: float) -> Iterator[Distance]:
    if now.rows and reference.rows:
        present = ([each.rows - each.nulls, each.nulls] for each in (now, reference))
        yield _binned("nulls", *present, alpha=alpha)
    slack = rounding(now, reference)
    for name, measure in now.measures.items():
        other = reference.measures.get(name)
        if other is not None and measure.count and other.count:
            yield _measured(name, measure, other, alpha=alpha, slack=slack)
    if now.kind != "number" and now.values is not None and reference.values is not None:
        names = [text for text, _ in reference.values.most_frequent(MOST_VALUES)]
        # A column of texts that hardly repeat has no shares to compare.
        if names:
            yield _binned("values", *(_shares(v, names) for v in (now.values, reference.values)), alpha=alpha)


def _shares(values: Values, names: Sequence[str]) -> list[int]:
    counts = [int(values.frequent.get_estimate(name)) for name in names]
    return [*counts, max(0, values.count - sum(counts))]


def rounding(*sketches: ColumnSketch) -> float:
    """How far measures may lie apart and tell nothing: scores that add up to 1 have one mean, but for it."""
    return max((_rounding(sketch) for sketch in sketches if sketch.kind == "numbers"), default=0.0)


def _rounding(sketch: ColumnSketch) -> float:
    measures = [each for name, each in sketch.measures.items() if name != "length" and each.count]
    largest = max((max(abs(each.low), abs(each.high)) for each in measures), default=0.0)
    return (SINGLE_ROUNDING if sketch.single else ROUNDING) * largest


def _measured(name: str, now: Measure, reference: Measure, *, alpha: float, slack: float) -> Distance:
    edges = distinct_quantiles(reference, BINS)
    psi = _binned(name, *(bin_counts(each, edges) for each in (now, reference)), alpha=alpha)
    same = max(now.high, reference.high) - min(now.low, reference.low) <= slack
    return Distance(
        of=name,
        psi=0.0 if same else psi.psi,
        psi_limit=psi.psi_limit,
        ks=0.0 if same else ks(now, reference),
        ks_limit=ks_limit(now.count, reference.count, alpha),
    )


def _binned(of: str, now: Sequence[int], reference: Sequence[int], *, alpha: float) -> Distance:
    return Distance(
        of=of,
        psi=psi(now, reference),
        psi_limit=psi_limit(sum(now), sum(reference), bins=len(reference), alpha=alpha),
    )


def psi(now: Sequence[int], reference: Sequence[int]) -> float:
    """The population stability index of two counts over the same bins.

    Half a row is added to each bin, so that an empty one does not make it infinite.
    """
    totals = [sum(counts) + len(counts) / 2 for counts in (now, reference)]
    shares = [((a + 0.5) / totals[0], (b + 0.5) / totals[1]) for a, b in zip(now, reference, strict=True)]
    return sum((a - b) * math.log(a / b) for a, b in shares)


def psi_limit(n: int, m: int, *, bins: int, alpha: float) -> float:
    """What the index of `n` rows against `m` must exceed to count."""
    return max(LEAST_PSI, _chi_square(bins - 1, alpha) * (1 / max(1, n) + 1 / max(1, m)))


def _chi_square(freedom: int, alpha: float) -> float:
    """The upper quantile, by the approximation of Wilson and Hilferty (1931)."""
    if freedom < 1:
        return 0.0
    part = 2 / (9 * freedom)
    return float(freedom * (1 - part + NormalDist().inv_cdf(1 - alpha) * math.sqrt(part)) ** 3)


def ks(now: Measure, reference: Measure) -> float:
    """The Kolmogorov-Smirnov distance, to the error of the two sketches."""
    points = sorted({*distinct_quantiles(now, KS_POINTS), *distinct_quantiles(reference, KS_POINTS)})
    both = (each.sketch.get_cdf(points, True) for each in (now, reference))
    return max(abs(float(a) - float(b)) for a, b in zip(*both, strict=True))


def ks_limit(n: int, m: int, alpha: float) -> float:
    """What the distance of `n` rows from `m` must exceed to count."""
    chance = math.sqrt(-math.log(alpha / 2) / 2) * math.sqrt((n + m) / (n * m))
    return max(LEAST_KS, chance) + 2 * RANK_ERROR


def distinct_quantiles(measure: Measure, parts: int) -> list[float]:
    """The inner borders of `parts` bins of equal share, fewer where values repeat."""
    return sorted(set(measure.sketch.get_quantiles([part / parts for part in range(1, parts)])))


def bin_counts(measure: Measure, edges: Sequence[float]) -> list[int]:
    """About how many rows lie up to each border, and behind the last."""
    return [round(share * measure.count) for share in measure.sketch.get_pmf(list(edges), True)]
