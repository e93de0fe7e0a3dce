"""The report as one HTML page: readable light and dark, printable, and whole without any other file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from shunter.workers.report import plots

TEMPLATE = Path(__file__).with_name("page.html")

MOST_COLUMNS = 60
"""So many columns are plotted, the drifted ones first; the others are in the JSON document."""

NAMES = {"now": "this run", "profile": "profile", "previous": "run before"}


def render(document: Mapping[str, Any]) -> str:
    """The page of a report's document."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "percent": percent, "moment": moment}
    template = environment.from_string(TEMPLATE.read_text())
    columns = document["columns"][:MOST_COLUMNS]
    return template.render(
        report=document,
        columns=[{**column, "plots": _column_plots(column, place)} for place, column in enumerate(columns)],
        left_out=len(document["columns"]) - len(columns),
        plots=_plots(document),
        names=NAMES,
    )


def _plots(document: Mapping[str, Any]) -> list[tuple[str, Markup]]:
    batches, throughput = document["batches"], document["throughput"]
    found = []
    if any(throughput["rows"]):
        found.append(("Throughput", plots.rate(throughput["rows"], throughput["part_s"], name="throughput")))
    if batches["sizes"]:
        sizes = [f"≤ {size}" for size in batches["sizes"]]
        counts = list(batches["sizes"].values())
        found.append(
            ("Batch size", plots.bars(sizes, counts, along="rows in a batch", up="batches", name="sizes"))
        )
    for name, title, along in (
        ("fill", "Fill", "rows, in % of a full batch"),
        ("padding", "Padding", "padding, in % of the tokens computed"),
    ):
        if batches[name]:
            tenths = [batches[name].get(f"{tenth / 10:.1f}", 0) for tenth in range(10)]
            labels = [str(tenth * 10) for tenth in range(10)]
            found.append((title, plots.bars(labels, tenths, along=along, up="batches", name=name)))
    return [(title, Markup(svg)) for title, svg in found]


def _column_plots(column: Mapping[str, Any], place: int) -> list[Markup]:
    return [
        Markup(plots.histogram(measure["histogram"], along=name, name=f"{place}.{name}"))
        for name, measure in column["measures"].items()
        # What never varies is told better by a number.
        if measure["count"] and len(measure["histogram"]["edges"]) > 2
    ]


def number(value: float | None) -> str:
    """A number for people: as many figures as tell something."""
    if value is None:
        return "\u2013"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", "\u202f")
    return f"{value:.4g}"


def percent(share: float | None) -> str:
    """A share for people."""
    return "\u2013" if share is None else f"{100 * share:.3g} %"


def moment(text: str) -> str:
    """A moment for people, in UTC."""
    return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S UTC")
