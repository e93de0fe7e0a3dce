"""What is asked of a scoring, before anything of it has been looked at."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from shunter.storage.errors import InvalidInput
from shunter.storage.job import Priority
from shunter.storage.scoring.formats import FORMATS
from shunter.storage.scoring.spec import check_max_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringRequest:
    """A dataset to run through a model; the names are those of `Client.score`, checked at construction."""

    model: str
    input: str
    output: str
    version: int | None = None
    columns: Sequence[str] = ()
    key: str | None = None
    keep: Sequence[str] = ()
    format: str | None = None
    input_format: str | None = None
    max_errors: str | None = None
    keep_failed: bool = False
    priority: str = Priority.BULK.label
    chunk_rows: int | None = None
    force: bool = False

    def __post_init__(self) -> None:
        for name in ("format", "input_format"):
            _check_among(name, getattr(self, name), FORMATS)
        _check_among("priority", self.priority, [priority.label for priority in Priority])
        check_max_errors(self.max_errors)
        if self.chunk_rows is not None and self.chunk_rows < 1:
            raise InvalidInput(f"chunk_rows is {self.chunk_rows}: give 1 or more", field="chunk_rows")


def _check_among(name: str, value: str | None, allowed: Collection[str]) -> None:
    if value is not None and value not in allowed:
        raise InvalidInput(f"{name} is {value!r}: it must be one of {', '.join(allowed)}", field=name)
