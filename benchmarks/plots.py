"""The pictures beside the tables, as PNG and SVG in benchmarks/out/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.figures import Runs
from benchmarks.rig import OUT


def rates_plot(name: str, title: str, runs: Runs) -> None:
    """A bar for each contestant: items a second, on a logarithmic scale."""
    bars_plot(name, title, "items/s", {who: [run.rate for run in of] for who, of in runs.items()})


def bars_plot(name: str, title: str, unit: str, values: Mapping[str, Sequence[float]]) -> None:
    """A bar for each name at the median of its values, and a line over their range."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    shown = [(who, sorted(of)) for who, of in values.items()][::-1]
    medians = [of[len(of) // 2] for _, of in shown]
    below = [median - of[0] for median, (_, of) in zip(medians, shown, strict=True)]
    above = [of[-1] - median for median, (_, of) in zip(medians, shown, strict=True)]
    figure, axes = plt.subplots(figsize=(8, 1 + 0.4 * len(shown)), layout="constrained")
    colours = ["tab:orange" if who.startswith("Shunter") else "tab:grey" for who, _ in shown]
    axes.barh([who for who, _ in shown], medians, xerr=(below, above), color=colours)
    axes.set_xscale("log")
    axes.set_xlabel(unit)
    axes.set_title(title)
    OUT.mkdir(exist_ok=True)
    for kind in ("png", "svg"):
        figure.savefig(OUT / f"{name}.{kind}")
    plt.close(figure)
