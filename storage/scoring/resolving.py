"""From what is asked to what is done: a version, absolute places, columns that exist, a size of chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from shunter.storage.model_registry import RegisteredModel
from shunter.storage.scoring.destination import absolute_output
from shunter.storage.scoring.formats import PARQUET, common_format
from shunter.storage.scoring.inspection import choose_columns, inspect
from shunter.storage.scoring.planning import chunk_rows
from shunter.storage.scoring.request import ScoringRequest
from shunter.storage.scoring.sources import FOR_TABLES, Source, absolute
from shunter.storage.scoring.spec import Spec
from shunter.storage.scoring.table_sink import is_table
from shunter.storage.worker_registry import Worker, rows_per_s


def resolve(
    request: ScoringRequest,
    model: RegisteredModel,
    sources: Sequence[Source],
    workers: Sequence[Worker],
    *,
    store_url: str,
    fetch_from: Sequence[str] = (),
) -> tuple[Spec, int | None]:
    """The scoring of these files, and how many rows they have if a look at them tells.

    What goes into a table first lies in the object store; `fetch_from` are prefixes that rows may refer to.

    The size of chunks is decided here, once, so that the same chunks come of it whoever plans them, and
    after any kill. Raises InvalidInput and its kin, NotFound, Unavailable.
    """
    table = request.output if is_table(request.output) else None
    format = request.input_format or common_format(sources)
    facts = inspect(sources, format)
    carried = [name for name in (request.key, *request.keep) if name is not None]
    columns = choose_columns(request.columns or request.fetch, facts, model.config.signature, carried)
    spec = Spec(
        model=model.name,
        version=model.version,
        input=absolute(request.input),
        output=absolute_output(request.output) if table is None else "",
        input_format=format,
        output_format=request.format or PARQUET,
        columns=columns,
        key=request.key,
        keep=tuple(request.keep),
        keep_failed=request.keep_failed,
        max_errors=request.max_errors,
        priority=request.priority,
        chunk_rows=chunk_size(request, model, workers),
        kinds=facts.kinds,
        force=request.force,
        fetch=tuple(request.fetch),
        fetch_from=tuple(fetch_from),
        table=table,
        compare_to=request.compare_to,
    )
    if table is not None:
        spec = replace(spec, output=_beside_table(spec, store_url))
    return spec, facts.total_rows


def chunk_size(request: ScoringRequest, model: RegisteredModel, workers: Sequence[Worker]) -> int:
    """Rows of a chunk: what is asked for, or what has been measured."""
    rate = rows_per_s(workers, model.name, model.version)
    return request.chunk_rows or chunk_rows(model.config.batching.max_rows, rate)


def _beside_table(spec: Spec, store_url: str) -> str:
    """Where the dataset lies that goes into a table: one place for a question."""
    return absolute_output(f"{store_url}/{FOR_TABLES}/{spec.identity().hex()[:32]}")
