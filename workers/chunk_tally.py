"""What a chunk's batches were like, kept while its rows go through the model; pure.

A batch that rows of several jobs share is counted with each of them for their part of its rows, so that the
sums over all chunks count every batch once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from shunter.storage.outcome import RowFailure
from shunter.storage.scoring.chunk_figures import STAGES, size_class, tenth
from shunter.workers.messages import BatchDone

MESSAGE_CHARS = 200


@dataclass(slots=True)
class ChunkTally:
    """Sums over the batches of one chunk; `storage.scoring.chunk_figures` says what each means."""

    batches: float = 0.0
    rows: int = 0
    seconds: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)
    fill: Counter[str] = field(default_factory=Counter)
    padding: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, batch: BatchDone, *, rows: int) -> None:
        """A batch is done, and so many of its rows were of this chunk."""
        part: Any = rows / batch.rows
        self.batches += part
        self.rows += rows
        for stage in STAGES:
            self.seconds[stage] += getattr(batch, f"{stage}_s") * part
        self.sizes[size_class(batch.rows)] += part
        self.fill[tenth(batch.rows / max(batch.full_rows, batch.rows))] += part
        if batch.padded_tokens:
            self.padding[tenth(1 - batch.tokens / batch.padded_tokens)] += part
        self.reasons[batch.reason] += part

    def document(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "batches": round(self.batches, 4),
            "rows": self.rows,
            **{
                name: {key: round(float(value), 6) for key, value in getattr(self, name).items()}
                for name in ("seconds", "sizes", "fill", "padding", "reasons")
            },
        }


def count_failures(failures: Sequence[RowFailure]) -> dict[str, tuple[int, str]]:
    """By code how many rows failed, and the message of the first."""
    found: dict[str, tuple[int, str]] = {}
    for failure in failures:
        count, message = found.get(failure.code, (0, failure.message[:MESSAGE_CHARS]))
        found[failure.code] = (count + 1, message)
    return found
