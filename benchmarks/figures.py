"""What is said about repeated runs: medians, spreads, and ratios of runs of one repetition; pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.report import spread

CPU_TICK_S = 0.01
"""What the kernel counts CPU time in: less than this was not nothing."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one contestant did once: how much, in which time, and what its worker processes used for it."""

    items: int
    seconds: float
    cpu_s: float = 0.0
    rss_bytes: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.items / self.seconds

    @property
    def cpu_s_per_1000(self) -> float:
        """CPU seconds of the worker for 1000 items."""
        return 1000 * max(self.cpu_s, CPU_TICK_S) / self.items

    def document(self) -> dict[str, Any]:
        """The JSON form."""
        return {**asdict(self), "rate": self.rate}


Runs = Mapping[str, Sequence[Run]]
"""The runs of each contestant, in the order of the repetitions."""


def ratios(mine: Sequence[Run], theirs: Sequence[Run]) -> list[float]:
    """My rate over theirs, repetition by repetition: what slows the machine slows both."""
    return [a.rate / b.rate for a, b in zip(mine, theirs, strict=True)]


def cpu_ratios(mine: Sequence[Run], theirs: Sequence[Run]) -> list[float]:
    """Their CPU seconds per item over mine, repetition by repetition."""
    return [b.cpu_s_per_1000 / a.cpu_s_per_1000 for a, b in zip(mine, theirs, strict=True)]


def median_rss_mib(runs: Sequence[Run]) -> float:
    """The median of the peaks."""
    return statistics.median(run.rss_bytes for run in runs) / 2**20


RATE_COLUMNS = (
    "contestant",
    "items a run",
    "n",
    "items/s",
    "{mine} ÷ it",
    "CPU s per 1000",
    "its CPU ÷ {mine}",
    "RSS MiB",
)


def rate_table(runs: Runs, mine: str) -> tuple[list[str], list[list[object]]]:
    """A line for each contestant: its rate, what `mine` is beside it, and what its worker used."""
    columns = [column.format(mine=mine) for column in RATE_COLUMNS]
    return columns, [_rate_line(name, of, runs[mine], name == mine) for name, of in runs.items()]


def _rate_line(name: str, runs: Sequence[Run], mine: Sequence[Run], itself: bool) -> list[object]:
    return [
        name,
        f"{runs[0].items:,}",
        len(runs),
        spread([run.rate for run in runs]),
        "1" if itself else spread(ratios(mine, runs)),
        statistics.median(run.cpu_s_per_1000 for run in runs),
        "1" if itself else spread(cpu_ratios(mine, runs)),
        f"{median_rss_mib(runs):.0f}",
    ]


def scaled(count: int, seconds: float, *, wanted_s: float, step: int = 1, most: int = 400_000) -> int:
    """How many items take about `wanted_s`, after `count` took `seconds`; a multiple of `step`."""
    wished = min(most, count * wanted_s / seconds)
    return max(step, int(wished) // step * step)
