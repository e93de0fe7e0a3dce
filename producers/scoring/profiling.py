"""The reference profile of a model version: what a dataset's columns are like, read in bounded memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shunter.producers.submission import check_model_name
from shunter.storage.database import Database
from shunter.storage.ids import new_id
from shunter.storage.model_registry import ModelRegistry
from shunter.storage.scoring.chunk import Chunk, Place
from shunter.storage.scoring.formats import PARQUET, common_format
from shunter.storage.scoring.inspection import inspect
from shunter.storage.scoring.planning import FilePlanner
from shunter.storage.scoring.reading import ChunkReader
from shunter.storage.scoring.reports import ReportRepository
from shunter.storage.scoring.sketches import (
    SKETCHED_ROWS,
    Sketches,
    encode_sketches,
    merge_into,
    sketch_table,
)
from shunter.storage.scoring.sources import Source, absolute, find_sources, store_at
from shunter.storage.scoring.spec import Spec
from shunter.storage.signature import Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiled:
    """A profile that is kept: of which version, of how many rows, of which columns."""

    model: str
    version: int
    rows: int
    columns: list[str]


def profile(
    database: Database, model: str, data: str, *, version: int | None = None, format: str | None = None
) -> Profiled:
    """Read a dataset and keep its profile with a model version, in place of an earlier one.

    The version is the newest one if none is named. Raises InvalidInput and its kin, NotFound, Unavailable.
    """
    registered = ModelRegistry(database).get(check_model_name(model), version)
    sources = find_sources(data)
    format = format or common_format(sources)
    facts = inspect(sources, format)
    with tempfile.TemporaryDirectory(prefix="shunter-profile-") as parts:
        spec = Spec(
            model=registered.name,
            version=registered.version,
            input=absolute(data),
            output=parts,
            input_format=format,
            output_format=PARQUET,
            columns=facts.columns or (),
            chunk_rows=SKETCHED_ROWS,
            kinds=facts.kinds,
        )
        columns, rows = summed_up(spec, sources)
    # A column of the profile may be compared with an input or an output of that name.
    kept = encode_sketches(inputs=columns, outputs=columns)
    ReportRepository(database).save_profile(
        spec.model, spec.version, source=spec.input, rows=rows, columns=kept
    )
    return Profiled(model=spec.model, version=spec.version, rows=rows, columns=list(columns))


def summed_up(spec: Spec, sources: Sequence[Source]) -> tuple[Sketches, int]:
    """The columns of a dataset and how many rows it has; one chunk of it is in memory at a time.

    A compressed file's pieces are staged at the spec's output. Raises InvalidInput and its kin, NotFound,
    Unavailable.
    """
    reader = ChunkReader(Signature())
    columns: Sketches = {}
    rows = 0
    for chunk in _chunks(spec, sources, Path(spec.output).as_uri()):
        merge_into(columns, sketch_table(reader.read(chunk).inputs, every=1, seed=chunk.number))
        rows += chunk.span.rows
    return columns, rows


def _chunks(spec: Spec, sources: Sequence[Source], parts: str) -> Iterator[Chunk]:
    """The whole dataset, as a scoring would cut it."""
    planner, place, id, number = FilePlanner(), Place(), new_id(), 0
    while place.file < len(sources):
        source = sources[place.file]
        stage = store_at(parts).put
        spans, place = planner.plan(spec, source, place, limit=1, number=number, stage=stage)
        for span in spans:
            yield Chunk(scoring=id, number=number, source=source, span=span, spec=spec, parts=parts)
            number += 1
