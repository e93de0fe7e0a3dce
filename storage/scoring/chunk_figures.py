"""What a chunk tells of its batches, and how a scoring's chunks are summed up; pure.

batches, rows       how many; of a batch that chunks share, this chunk's part alone
seconds             {preprocess, forward, postprocess}: this chunk's part
sizes               {"64": batches of 33 to 64 rows}
fill, padding       {"0.9": batches from 90 to 100 %}: rows of a full batch, padding of its tokens
reasons             {why a batch was closed: batches}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

STAGES = ("preprocess", "forward", "postprocess")


def size_class(rows: int) -> str:
    """The power of two that holds so many rows."""
    return str(1 << max(0, rows - 1).bit_length())


def tenth(share: float) -> str:
    """The tenth in which a share lies, by its lower end; the whole is in the last."""
    return f"{min(9, int(max(0.0, share) * 10 + 1e-9)) / 10:.1f}"


def sum_figures(runs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """All chunks of a scoring; the histograms in the order of their classes, reasons by how often."""
    sums: dict[str, Counter[str]] = {
        name: Counter() for name in ("seconds", "sizes", "fill", "padding", "reasons")
    }
    batches, rows = 0.0, 0
    for run in runs:
        batches, rows = batches + run["batches"], rows + run["rows"]
        for name, counter in sums.items():
            counter.update(run[name])
    return {
        "batches": round(batches),
        "mean_rows": rows / batches if batches else None,
        "seconds": {stage: sums["seconds"][stage] for stage in STAGES},
        **{
            name: dict(sorted(sums[name].items(), key=lambda each: float(each[0])))
            for name in ("sizes", "fill", "padding")
        },
        "reasons": dict(sums["reasons"].most_common()),
    }
