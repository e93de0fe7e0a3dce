"""From what is asked to what is done: a version, absolute places, columns that exist, a size of chunks."""

from __future__ import annotations

from collections.abc import Sequence

from shunter.storage.model_registry import RegisteredModel
from shunter.storage.scoring.destination import absolute_output
from shunter.storage.scoring.formats import PARQUET, common_format
from shunter.storage.scoring.inspection import choose_columns, inspect
from shunter.storage.scoring.planning import chunk_rows
from shunter.storage.scoring.request import ScoringRequest
from shunter.storage.scoring.sources import Source, absolute
from shunter.storage.scoring.spec import Spec
from shunter.storage.worker_registry import Worker, rows_per_s


def resolve(
    request: ScoringRequest, model: RegisteredModel, sources: Sequence[Source], workers: Sequence[Worker]
) -> tuple[Spec, int | None]:
    """The scoring of these files, and how many rows they have if a look at them tells.

    The size of chunks is decided here, once, so that the same chunks come of it whoever plans them, and
    after any kill. Raises InvalidInput and its kin, NotFound, Unavailable.
    """
    format = request.input_format or common_format(sources)
    facts = inspect(sources, format)
    carried = [name for name in (request.key, *request.keep) if name is not None]
    columns = choose_columns(request.columns, facts, model.config.signature, carried)
    rate = rows_per_s(workers, model.name, model.version)
    spec = Spec(
        model=model.name,
        version=model.version,
        input=absolute(request.input),
        output=absolute_output(request.output),
        input_format=format,
        output_format=request.format or PARQUET,
        columns=columns,
        key=request.key,
        keep=tuple(request.keep),
        keep_failed=request.keep_failed,
        max_errors=request.max_errors,
        priority=request.priority,
        chunk_rows=request.chunk_rows or chunk_rows(model.config.batching.max_rows, rate),
        kinds=facts.kinds,
        force=request.force,
    )
    return spec, facts.total_rows
