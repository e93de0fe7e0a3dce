"""Columns in the report's document: figures beside those of the references, and how far they are; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from shunter.storage.scoring.drift import Distance, compare, rounding
from shunter.storage.scoring.sketches import ColumnSketch, Measure, Sketches

SIDES = {"inputs": "input", "outputs": "output"}
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)

HISTOGRAM_BINS, MOST_WHOLE_NUMBERS = 24, 40
TAIL = 0.005
"""What lies further out on either side is shown in the outermost bins."""

MOST_FREQUENT = 10

Groups = Mapping[str, Mapping[str, Sketches]]
"""Of each reference the columns of each side."""


def column_documents(columns: Mapping[str, Sketches], references: Groups) -> list[dict[str, Any]]:
    """Every column of each side, those that have drifted first."""
    told = [document for group, side in SIDES.items() for document in _side(group, side, columns, references)]
    return sorted(told, key=lambda document: not document["drifted"])


def _side(
    group: str, side: str, columns: Mapping[str, Sketches], references: Groups
) -> Iterator[dict[str, Any]]:
    others = {name: groups.get(group, {}) for name, groups in references.items()}
    distances = {name: compare(columns.get(group, {}), other) for name, other in others.items()}
    for name, sketch in columns.get(group, {}).items():
        beside = {reference: other[name] for reference, other in others.items() if name in other}
        apart = {reference: distances[reference][name] for reference in beside}
        yield {"side": side, "name": name, **_column(sketch, beside, apart)}


def _column(
    sketch: ColumnSketch, beside: Mapping[str, ColumnSketch], apart: Mapping[str, list[Distance]]
) -> dict[str, Any]:
    slack = rounding(sketch, *beside.values())
    return {
        "kind": sketch.kind,
        "rows": sketch.rows,
        "nulls": sketch.nulls,
        "looked_at": sketch.looked_at,
        "distinct": None if sketch.values is None else round(sketch.values.distinct.get_estimate()),
        "measures": {
            name: _measure(
                measure, {at: o.measures[name] for at, o in beside.items() if name in o.measures}, slack
            )
            for name, measure in sketch.measures.items()
        },
        "frequent": list(_frequent(sketch, beside)),
        "distances": {
            reference: [{**asdict(distance), "drifted": distance.drifted} for distance in distances]
            for reference, distances in apart.items()
        },
        "drifted": any(distance.drifted for distances in apart.values() for distance in distances),
    }


def _measure(measure: Measure, others: Mapping[str, Measure], slack: float) -> dict[str, Any]:
    if not measure.count:
        return {"count": 0, "strange": measure.strange}
    return {
        "count": measure.count,
        "strange": measure.strange,
        "mean": measure.mean,
        "low": measure.low,
        "high": measure.high,
        "quantiles": dict(
            zip(map(str, QUANTILES), measure.sketch.get_quantiles(list(QUANTILES)), strict=True)
        ),
        "histogram": _histogram(
            {"now": measure, **{n: other for n, other in others.items() if other.count}}, slack
        ),
    }


def _histogram(measures: Mapping[str, Measure], slack: float) -> dict[str, list[float]]:
    """Shares over the same bins of equal width: `edges` are one more than bins."""
    edges = _edges(list(measures.values()), slack)
    inner = list(edges[1:-1])
    shares = {
        name: [round(share, 6) for share in (measure.sketch.get_pmf(inner, True) if inner else [1.0])]
        for name, measure in measures.items()
    }
    return {"edges": [float(edge) for edge in edges], **shares}


def _edges(measures: list[Measure], slack: float) -> np.ndarray[Any, Any]:
    ends = [measure.sketch.get_quantiles([TAIL, 1 - TAIL]) for measure in measures]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    if _whole(measures) and high - low < MOST_WHOLE_NUMBERS:
        return np.arange(low - 0.5, high + 1)
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    # Numbers too near to each other to be told apart stand in one bin.
    apart = high - low > slack and len(set(edges)) == len(edges)
    return edges if apart else np.array([low - 0.5, high + 0.5])


def _whole(measures: list[Measure]) -> bool:
    quantiles = [q for m in measures for q in m.sketch.get_quantiles([n / 50 for n in range(51)])]
    return all(float(quantile).is_integer() for quantile in quantiles)


def _frequent(sketch: ColumnSketch, beside: Mapping[str, ColumnSketch]) -> Iterator[dict[str, Any]]:
    if sketch.values is None:
        return
    for text, count in sketch.values.most_frequent(MOST_FREQUENT):
        others = {
            reference: other.values.frequent.get_estimate(text) / other.values.count
            for reference, other in beside.items()
            if other.values is not None and other.values.count
        }
        yield {"value": text, "share": count / sketch.values.count, **others}
