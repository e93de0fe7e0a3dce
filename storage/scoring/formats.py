"""Which formats datasets have, told by the names of their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from shunter.storage.errors import InvalidInput
from shunter.storage.scoring.sources import Source

PARQUET, JSONL, CSV = "parquet", "jsonl", "csv"
FORMATS = (PARQUET, JSONL, CSV)

FILES = "files"
"""An input of which each file is a row."""

_SUFFIXES = {
    ".parquet": PARQUET,
    ".pq": PARQUET,
    ".jsonl": JSONL,
    ".ndjson": JSONL,
    ".json": JSONL,
    ".csv": CSV,
}
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}


def compression_of(url: str) -> str | None:
    """How a file is compressed, by its name; None if it is not."""
    return _COMPRESSIONS.get(PurePosixPath(url.lower()).suffix)


def format_of(url: str) -> str | None:
    """The format that a file's name tells; None if it tells none."""
    path = PurePosixPath(url.lower())
    return _SUFFIXES.get((path.with_suffix("") if path.suffix in _COMPRESSIONS else path).suffix)


def common_format(sources: Sequence[Source]) -> str:
    """The one format of all files; InvalidInput if there is none or more than one."""
    found = {format_of(source.url): source.url for source in sources}
    if None in found:
        raise InvalidInput(
            f"{found[None]} does not tell its format: name files .parquet, .jsonl or .csv (.gz, .zst), "
            "or give --input-format (files: each file is a row)",
            field="input",
        )
    if len(found) > 1:
        one, other = list(found.values())[:2]
        raise InvalidInput(f"{one} and {other} have different formats: score them apart", field="input")
    (only,) = found
    assert only is not None
    return only
