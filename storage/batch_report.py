"""What batches were like: what a worker's heartbeat tells of them, and how the fleet's are summed up; pure.

A worker tells, for each model version, counters since it started, and its latest batches:

    batches, rows, forwards          rows went through the model in so many batches and calls
    full_rows                        rows there would have been if every batch had been full
    tokens, padded_tokens            real ones, and those that the model computed; 0 for models without length
    seconds                          {wait, preprocess, forward, postprocess}: sums over batches
    sizes, reasons                   {rows in a batch: batches}, {close reason: batches}
    out_of_memory                    runs that did not fit in memory
    ceiling_trials, …_failed         batches larger than was known to fit, and those of them that did not
    rows_per_s, busy                 the measured rate; the share of the last minute that the model ran
    recent                           the latest batches, newest first, each with its age in seconds
    sizing                           what was learnt about the cost of each size
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

RECENT = 20
"""So many of the latest batches are told of each model version."""

Document = Mapping[str, Any]


def sum_up(told: Iterable[Document]) -> dict[str, Any]:
    """One model version's batches over all workers; older workers may leave out any key.

    `fill` is rows over what full batches would have held, `padding` the share of the computed tokens
    that were padding, `queue_s` the mean wait of a batch's oldest row; None where nothing tells.
    """
    documents = list(told)
    batches, rows = _sum(documents, "batches"), _sum(documents, "rows")
    full_rows, padded = _sum(documents, "full_rows"), _sum(documents, "padded_tokens")
    seconds = _merge(documents, "seconds")
    return {
        "workers": len(documents),
        "batches": batches,
        "rows": rows,
        "forwards": _sum(documents, "forwards"),
        "mean_rows": _ratio(rows, batches),
        "fill": _ratio(rows, full_rows),
        "padding": 1 - _sum(documents, "tokens") / padded if padded else None,
        "queue_s": _ratio(seconds.get("wait", 0.0), batches),
        "rows_per_s": float(_sum(documents, "rows_per_s")),
        "busy": _ratio(_sum(documents, "busy"), len(documents)),
        "seconds": seconds,
        "sizes": dict(sorted(_merge(documents, "sizes").items(), key=lambda size: int(size[0]))),
        "reasons": dict(_merge(documents, "reasons").most_common()),
        "recent": _newest(documents),
        "sizing": [document["sizing"] for document in documents if document.get("sizing")],
    }


def split_key(key: str) -> tuple[str, int]:
    """The model and version that a worker's counters stand under."""
    model, _, version = key.rpartition(":")
    return model, int(version)


def join_key(model: str, version: int) -> str:
    """What a worker's counters of a model version stand under."""
    return f"{model}:{version}"


def _sum(documents: Sequence[Document], key: str) -> Any:
    return sum(document.get(key, 0) for document in documents)


def _merge(documents: Sequence[Document], key: str) -> Counter[str]:
    merged: Counter[str] = Counter()
    for document in documents:
        merged.update(document.get(key, {}))
    return merged


def _newest(documents: Sequence[Document]) -> list[Document]:
    batches = [batch for document in documents for batch in document.get("recent", ())]
    return sorted(batches, key=lambda batch: float(batch["age_s"]))[:RECENT]


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
