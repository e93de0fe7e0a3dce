"""What is asked of a scoring, before anything of it has been looked at."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from shunter.storage.errors import InvalidInput
from shunter.storage.job import Priority
from shunter.storage.scoring.formats import FILES, FORMATS, PARQUET
from shunter.storage.scoring.spec import check_max_errors
from shunter.storage.scoring.table_sink import check_table_url, is_table


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
    fetch: Sequence[str] = ()
    format: str | None = None
    input_format: str | None = None
    max_errors: str | None = None
    keep_failed: bool = False
    priority: str = Priority.BULK.label
    chunk_rows: int | None = None
    check_keys: bool = False
    force: bool = False
    compare_to: str | None = None

    def __post_init__(self) -> None:
        _check_among("format", self.format, FORMATS)
        _check_among("input_format", self.input_format, (*FORMATS, FILES))
        strange = sorted(set(self.fetch) - set(self.columns)) if self.columns else ()
        if strange:
            raise InvalidInput(f"fetch names {strange[0]!r}, which is none of the columns", field="fetch")
        _check_among("priority", self.priority, [priority.label for priority in Priority])
        check_max_errors(self.max_errors)
        if self.check_keys and self.key is None and self.input_format != FILES:
            raise InvalidInput("check_keys says nothing without a key: name its column", field="key")
        if is_table(self.output) and (self.key is None or self.format not in (None, PARQUET)):
            raise InvalidInput("a table is written by key, and has no format: name the key", field="key")
        if is_table(self.output):
            check_table_url(self.output)
        if self.chunk_rows is not None and self.chunk_rows < 1:
            raise InvalidInput(f"chunk_rows is {self.chunk_rows}: give 1 or more", field="chunk_rows")


def _check_among(name: str, value: str | None, allowed: Collection[str]) -> None:
    if value is not None and value not in allowed:
        raise InvalidInput(f"{name} is {value!r}: it must be one of {', '.join(allowed)}", field=name)
