"""A chunk: some rows of one file, as an ordinary job whose input is this reference instead of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

import orjson

from shunter.storage.errors import PayloadError
from shunter.storage.scoring.sources import Source
from shunter.storage.scoring.spec import Spec

MAGIC = b"\xc1R"
"""Begins neither UTF-8 nor msgpack, nor a block of rows."""


@dataclass(frozen=True, slots=True)
class Place:
    """What is to be planned next: a row of a file, and the byte at which it begins in text.

    When failed rows are run again, `row` is the next chunk of the earlier scoring.
    """

    file: int = 0
    row: int = 0
    byte: int = 0

    def document(self) -> dict[str, int]:
        """The JSON form."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Which rows of which file: `rows` of them, the first being row `first_row` of the file (from 0).

    In text they are the bytes `start` to `stop`. What was compressed lies decompressed among the scoring's
    parts, under `staged`. Of a scoring with a watermark only `passing` of them are its own. With `only`, the
    URL of an errors file of an earlier scoring, they are but the `failed` rows that it lists.
    """

    file: int
    rows: int
    first_row: int
    start: int = 0
    stop: int = 0
    staged: str | None = None
    only: str | None = None
    failed: int = 0
    passing: int | None = None

    @property
    def own(self) -> int:
        """Rows that are of the scoring."""
        return self.rows if self.passing is None else self.passing

    @property
    def count(self) -> int:
        """Rows to run."""
        return self.own if self.only is None else self.failed

    def document(self) -> dict[str, Any]:
        """The JSON form, which workers of the version before can read unless `passing` is told."""
        document = asdict(self)
        if self.passing is None:
            del document["passing"]
        return document


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """All that an engine needs: the rows, what to make of them, and where the output goes."""

    scoring: UUID
    number: int
    source: Source
    span: Span
    spec: Spec
    parts: str


def is_chunk(block: bytes | None) -> bool:
    """Whether a job's input is a reference to a chunk's rows."""
    return block is not None and block.startswith(MAGIC)


def is_part(block: bytes) -> bool:
    """Whether a job's output tells of a chunk's files instead of holding outputs."""
    return block.startswith(b"{")


def encode_chunk(chunk: Chunk) -> bytes:
    """The input block of the chunk's job."""
    document = {**asdict(chunk), "span": chunk.span.document(), "spec": chunk.spec.document()}
    return MAGIC + orjson.dumps(document)


def decode_chunk(block: bytes) -> Chunk:
    """Read what `encode_chunk` wrote; PayloadError."""
    try:
        return _read(orjson.loads(block.removeprefix(MAGIC)))
    except (ValueError, KeyError, TypeError) as error:
        raise PayloadError(f"the reference to a chunk cannot be read: {error!r}") from error


def _read(fields: Mapping[str, Any]) -> Chunk:
    return Chunk(
        scoring=UUID(fields["scoring"]),
        number=fields["number"],
        source=Source(**fields["source"]),
        span=Span(**fields["span"]),
        spec=Spec.from_document(fields["spec"]),
        parts=fields["parts"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one run of a chunk has written: the keys of its rows and of its errors, None where there are none.

    `schema` is that of the rows, serialized, if the file has one. `columns_key` names the sketches of its
    columns, `run` tells of its batches, and `failures` why rows failed: by code how many, and one message.
    """

    rows_key: str | None
    errors_key: str | None
    rows: int
    size: int
    schema: str | None = None
    columns_key: str | None = None
    run: dict[str, Any] | None = None
    failures: dict[str, tuple[int, str]] | None = None

    def encode(self) -> bytes:
        """The output block of the chunk's job."""
        return orjson.dumps(asdict(self))
