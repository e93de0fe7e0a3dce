"""What a scoring is: its states, what was asked, and which question it is the answer to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson

from shunter.storage.errors import InvalidInput
from shunter.storage.job import Priority
from shunter.storage.scoring.marks import Watermark, watermark
from shunter.storage.scoring.sources import Source

LATER_LISTS = ("fetch", "fetch_from")
LATER = (*LATER_LISTS, "table", "watermark")
"""Fields that stored scorings of earlier versions lack."""


class ScoringState(StrEnum):
    """Where a scoring stands; only `running` is ever left."""

    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self is not ScoringState.RUNNING


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What is asked of a scoring, resolved: a version, absolute places, columns that exist.

    `columns` are what a row is made of (none: the whole row), `kinds` the types of a CSV's columns, and
    `retries` the scoring whose failed rows are run again. `compare_to` is the one whose columns its own are
    compared with, None for the last of its kind. Chunks have at most `chunk_rows` rows. With
    `force`, what is at the output is replaced. The columns `fetch` hold URLs whose objects are the values;
    the prefixes `fetch_from` were named by whoever asked, and need no setting. With `table`, the URL of one,
    the dataset goes there when it is whole. With `watermark`, only the rows past it are scored.
    """

    model: str
    version: int
    input: str
    output: str
    input_format: str
    output_format: str
    columns: tuple[str, ...] = ()
    key: str | None = None
    keep: tuple[str, ...] = ()
    keep_failed: bool = False
    max_errors: str | None = None
    priority: str = Priority.BULK.label
    chunk_rows: int
    kinds: tuple[tuple[str, str], ...] = ()
    force: bool = False
    retries: str | None = None
    fetch: tuple[str, ...] = ()
    fetch_from: tuple[str, ...] = ()
    table: str | None = None
    compare_to: str | None = None
    watermark: Watermark | None = None

    @property
    def needed(self) -> tuple[str, ...]:
        """Every input column that a chunk is read with."""
        mark = () if self.watermark is None else (self.watermark.column,)
        return tuple(dict.fromkeys((*self.columns, *self.carried, *mark)))

    @property
    def carried(self) -> tuple[str, ...]:
        """The input columns that stand in the output, the key first."""
        key = () if self.key is None else (self.key,)
        return tuple(dict.fromkeys((*key, *self.keep)))

    def document(self) -> dict[str, Any]:
        """The JSON form, as stored; workers of the version before can read it unless there is a watermark."""
        document = asdict(self)
        if self.watermark is None:
            del document["watermark"]
        return document

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Spec:
        """Read the JSON form."""
        lists = {name: tuple(document.get(name, ())) for name in ("columns", "keep", *LATER_LISTS)}
        kinds = tuple((name, kind) for name, kind in document["kinds"])
        past = watermark(document.get("watermark"))
        return cls(**{**document, **lists, "kinds": kinds, "watermark": past})

    def identity(self) -> bytes:
        """A digest of the question: what decides the answer, but for what lies in the input's files."""
        asked = asdict(self)
        for how in ("max_errors", "priority", "chunk_rows", "kinds", "force", "compare_to"):
            del asked[how]
        # What earlier versions did not ask for is no part of their questions.
        for name in LATER:
            if not asked[name]:
                del asked[name]
        return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """A stored scoring; `total_rows` is None until all files are looked at, `drifted` until reported.

    `schedule_name` and `window_start` say which window of which schedule it is of, if it is of one.
    """

    id: UUID
    tenant: str
    state: ScoringState
    spec: Spec
    fingerprint: bytes
    files: int
    planned: bool
    chunks: int
    planned_rows: int
    total_rows: int | None
    rows_succeeded: int
    rows_failed: int
    error: dict[str, Any] | None
    created_at: datetime
    finished_at: datetime | None
    schedule_name: str | None = None
    window_start: datetime | None = None
    drifted: bool | None = None

    @property
    def rows_done(self) -> int:
        """Rows that have ended either way."""
        return self.rows_succeeded + self.rows_failed


def fingerprint(identity: bytes, sources: Sequence[Source]) -> bytes:
    """A digest of the question and of the files as they are."""
    return hashlib.sha256(identity + sources_digest(sources)).digest()


def sources_digest(sources: Sequence[Source]) -> bytes:
    """A digest of the files' names, sizes and tags."""
    return hashlib.sha256(orjson.dumps([source.document() for source in sources])).digest()


def check_max_errors(text: str | None) -> str | None:
    """The text itself, if it is a number of rows or a percentage; InvalidInput."""
    if text is not None:
        errors_allowed(text, 0)
    return text


def errors_allowed(max_errors: str, total_rows: int) -> int:
    """How many rows may fail; InvalidInput if the text says neither a number nor a percentage."""
    text = max_errors.strip()
    try:
        if not text.endswith("%"):
            number = int(text)
            if number >= 0:
                return number
        elif 0 <= (percent := float(text[:-1])) <= 100:
            return int(total_rows * percent / 100)
    except ValueError:
        pass
    raise InvalidInput(
        f"max_errors is {max_errors!r}: give a number of rows, such as 100, or a share, such as 2.5%",
        field="max_errors",
    )
