"""Files as rows: their listing is staged as a dataset of paths, whose objects the engines fetch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from shunter.producers.scoring.staging import stage
from shunter.storage.object_store import ObjectStore
from shunter.storage.scoring.formats import PARQUET
from shunter.storage.scoring.request import ScoringRequest
from shunter.storage.scoring.sources import Source, find_sources, is_s3

PATH, BYTES = "path", "bytes"
"""The columns of such a dataset; beside them stand `size` and `tag`, which change with the file."""


def stage_listing(request: ScoringRequest, store: ObjectStore) -> tuple[ScoringRequest, list[str]]:
    """The request over the listing of its files, and the folder above all. Raises NotFound, Unavailable.

    Rows are the bytes unless `columns` says otherwise, and the path is their key.
    """
    sources = find_sources(request.input)
    urls = [_url(source) for source in sources]
    columns = {
        PATH: [source.url for source in sources],
        BYTES: urls,
        "size": [source.size for source in sources],
        "tag": [source.tag for source in sources],
    }
    wanted = tuple(request.columns) or (BYTES,)
    asked = replace(
        request,
        input=stage(pa.table(columns), store),
        input_format=PARQUET,
        columns=wanted,
        fetch=[name for name in (BYTES,) if name in wanted],
        key=request.key or PATH,
    )
    return asked, [_above(urls)]


def _url(source: Source) -> str:
    return source.url if is_s3(source.url) else Path(source.url).as_uri()


def _above(urls: list[str]) -> str:
    """The deepest folder that holds all of them."""
    first, last = min(urls).split("/"), max(urls).split("/")
    same = next((n for n, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), -1)
    return "/".join(first[:same])
