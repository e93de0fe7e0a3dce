"""How a measurement is told: a Markdown table on stdout, the raw numbers as JSON in benchmarks/out/."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from benchmarks.machine import machine, versions
from benchmarks.rig import OUT


@dataclass
class Report:
    """One measurement: its rows in words, and the numbers they come from."""

    name: str
    columns: Sequence[str]
    rows: list[Sequence[object]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)
    kind: str = "transport"

    def row(self, *cells: object) -> None:
        """Add a row of the table."""
        self.rows.append(cells)

    def publish(self) -> None:
        """Print the table and write the numbers."""
        print(f"\n### {self.name}\n\n{markdown(self.columns, self.rows)}")
        for note in self.notes:
            print(f"\n{note}")
        print(flush=True)
        OUT.mkdir(exist_ok=True)
        document = {
            "name": self.name,
            "at": time.time(),
            "machine": machine(),
            "versions": versions(),
            "raw": self.raw,
            "columns": self.columns,
            "rows": self.rows,
            "notes": self.notes,
        }
        path = OUT / f"{self.kind}-{self.name}-{int(time.time())}.json"
        path.write_bytes(
            orjson.dumps(document, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
        )


def markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(values: Sequence[float]) -> str:
    """The median, and between which values it lies."""
    return f"{_number(statistics.median(values))} ({_number(min(values))} - {_number(max(values))})"


def by_calls(calls: Mapping[str, int]) -> str:
    """Commands by how often they were called."""
    ordered = sorted(calls.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {count}" for name, count in ordered)


def _cell(cell: object) -> str:
    return _number(cell) if isinstance(cell, float) else str(cell)


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
