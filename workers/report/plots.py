"""Plots as SVG within the page: they take its colours, light or dark, and ask nobody for anything."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, NOW, PROFILE, PREVIOUS = "#010203", "#010204", "#010205", "#010206"
PAINT = {INK: "currentColor", NOW: "var(--now)", PROFILE: "var(--profile)", PREVIOUS: "var(--previous)"}
"""What matplotlib paints with, and what the page makes of it."""

NOW_LOOKS: Mapping[str, Any] = {"fill": True, "alpha": 0.55}
REFERENCE_LOOKS: Mapping[str, Any] = {"linewidth": 1.8}

COLOURS = {"now": NOW, "profile": PROFILE, "previous": PREVIOUS}

STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "ytick.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.15,
}

_HEAD = re.compile(r"^.*?(?=<svg )|<metadata>.*?</metadata>", re.DOTALL)
_GROUP = re.compile(r'<g id="[^"]*"')
_FONT = re.compile(r"font-family: [^;\"]*;? ?")


def bars(labels: Sequence[str], values: Sequence[float], *, along: str, up: str, name: str) -> str:
    """One bar for each label."""
    figure, axes = _axes(along, up)
    axes.bar(range(len(values)), values, color=NOW, width=0.8)
    step = -(-len(labels) // 12)
    axes.set_xticks(range(0, len(labels), step), labels[::step])
    return _svg(figure, name)


def rate(rows: Sequence[int], part_s: float, *, name: str) -> str:
    """Rows per second in each part of the time."""
    figure, axes = _axes("seconds since the start", "rows/s")
    edges = [part * part_s for part in range(len(rows) + 1)]
    axes.stairs([count / part_s if part_s else 0 for count in rows], edges, fill=True, color=NOW)
    axes.set_xlim(0, edges[-1] or 1)
    return _svg(figure, name)


def histogram(document: Mapping[str, Sequence[float]], *, along: str, name: str) -> str:
    """Shares of a column now, filled, and of its references, as lines."""
    figure, axes = _axes(along, "% of rows")
    edges = document["edges"]
    for side, colour in COLOURS.items():
        if side in document:
            shares = [100 * share for share in document[side]]
            looks = NOW_LOOKS if side == "now" else REFERENCE_LOOKS
            axes.stairs(shares, edges, color=colour, **looks)
    axes.set_xlim(edges[0], edges[-1])
    return _svg(figure, name)


def _axes(along: str, up: str) -> tuple[Figure, Any]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 2.1), layout="constrained")
        axes = figure.add_subplot()
        axes.set_xlabel(along)
        axes.set_ylabel(up)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_locator(MaxNLocator(6))
    return figure, axes


def _svg(figure: Figure, name: str) -> str:
    """The figure as an element of the page; `name` keeps the identifiers of two figures apart."""
    text = io.StringIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = _GROUP.sub("<g", _HEAD.sub("", text.getvalue()))
    for paint, colour in PAINT.items():
        svg = svg.replace(paint, colour)
    return _FONT.sub("", svg).replace("<svg ", '<svg aria-hidden="true" ', 1)
