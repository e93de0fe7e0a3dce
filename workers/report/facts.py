"""What a report is built from and what comes of it, as they cross the pipe to the process that builds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import ormsgpack

from shunter.storage.scoring.reports import Reference

EXIT_UNAVAILABLE = 75
"""The process ends so when the same may succeed later; the code is that of sysexits.h."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkFacts:
    """One chunk: its rows, how many seconds after the beginning it ended, and what its job told."""

    rows_succeeded: int
    rows_failed: int
    ended_s: float | None
    run: Mapping[str, Any] | None
    failures: Mapping[str, Sequence[Any]]
    columns_key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFacts:
    """A complete scoring; `parts` is the object store, by URL, in which its chunks' sketches lie.

    `price` is that of a device for an hour, in whatever money. `missing` is the scoring that it was to be
    compared with and that is there no more, by its id.
    """

    scoring: Mapping[str, Any]
    seconds: float
    parts: str
    chunks: Sequence[ChunkFacts]
    references: Sequence[Reference]
    price: float | None
    missing: str | None = None

    def encode(self) -> bytes:
        """The bytes for the process."""
        return ormsgpack.packb(asdict(self))

    @classmethod
    def decode(cls, data: bytes) -> ReportFacts:
        """Read what `encode` wrote."""
        fields = ormsgpack.unpackb(data)
        chunks = [ChunkFacts(**chunk) for chunk in fields.pop("chunks")]
        references = [Reference(**reference) for reference in fields.pop("references")]
        return cls(**fields, chunks=chunks, references=references)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltReport:
    """A report: its JSON document, its page, and all columns' sketches for the next one to compare with."""

    document: dict[str, Any]
    page: str
    columns: bytes

    @property
    def drifted(self) -> bool | None:
        """Whether anything is not as it was; None if there was nothing to compare with."""
        drifted: bool | None = self.document["drift"]["drifted"]
        return drifted

    def encode(self) -> bytes:
        """The bytes for the hub."""
        return ormsgpack.packb(asdict(self))

    @classmethod
    def decode(cls, data: bytes) -> BuiltReport:
        """Read what `encode` wrote."""
        return cls(**ormsgpack.unpackb(data))
