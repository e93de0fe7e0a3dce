"""Keys that stand in more than one row, found before anything runs: one pass, eight bytes a row."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

import numpy as np

from shunter.storage.errors import InvalidInput
from shunter.storage.scoring.formats import CSV, PARQUET
from shunter.storage.scoring.parquet import open_parquet, parquet_errors
from shunter.storage.scoring.reading import parse_records
from shunter.storage.scoring.sources import Source, open_source
from shunter.storage.scoring.spec import Spec
from shunter.storage.scoring.text import Records
from shunter.storage.scoring.text_stream import text_stream

Located = tuple[Any, Source, int]
"""A key, its file, and its row there."""


class DuplicateKey(InvalidInput):
    """Two rows have the same key."""

    code = "duplicate_key"


def refuse_duplicates(sources: Sequence[Source], spec: Spec) -> None:
    """DuplicateKey if two rows have one key; rows without a key, or that cannot be read, have none."""
    digests = np.array(array("q", (hash(key) for key, _, _ in _keys(sources, spec))))
    digests.sort()
    twice = set(digests[1:][digests[1:] == digests[:-1]].tolist())
    first: dict[Any, tuple[Source, int]] = {}
    for key, source, row in _keys(sources, spec) if twice else ():
        if hash(key) not in twice:
            continue
        if key in first:
            earlier, place = first[key]
            raise DuplicateKey(
                f"the key {key!r:.100} stands in row {place} of {earlier.url} and in row {row} of "
                f"{source.url}: rows count from 0",
                field="key",
            )
        first[key] = source, row


def _keys(sources: Sequence[Source], spec: Spec) -> Iterator[Located]:
    read = _parquet_keys if spec.input_format == PARQUET else _text_keys
    for source in sources:
        for row, key in enumerate(read(source, spec)):
            if key is not None:
                yield (repr(key) if isinstance(key, list | dict) else key), source, row


def _parquet_keys(source: Source, spec: Spec) -> Iterator[Any]:
    with closing(open_parquet(source)) as parquet, parquet_errors(source.url):
        for batch in parquet.iter_batches(columns=[spec.key]):
            yield from batch.column(0).to_pylist()


def _text_keys(source: Source, spec: Spec) -> Iterator[Any]:
    with closing(open_source(source)) as file:
        records = iter(Records(text_stream(file, source, start=0), spec.input_format))
        header = 1 if spec.input_format == CSV else 0
        for row in parse_records(islice(records, header, None), spec, first=not header):
            yield row.get(spec.key) if isinstance(row, dict) else None
