"""What a window would score, if it were begun now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shunter.storage.database import Cursor
from shunter.storage.errors import EmptyRows, NotFound, SettingsError
from shunter.storage.model_registry import RegisteredModel
from shunter.storage.schedules.definition import Schedule
from shunter.storage.schedules.rounds import unscored
from shunter.storage.scoring.request import ScoringRequest
from shunter.storage.scoring.sources import Source, find_sources
from shunter.storage.scoring.spec import Spec
from shunter.storage.scoring.table_sink import TableSink
from shunter.storage.worker_registry import Worker


class InputMissing(NotFound):
    """A window's input is not there, or not whole yet."""

    code = "input_missing"


class NothingNew(InputMissing):
    """Every file of a window's input was scored in an earlier one."""

    code = "nothing_new"


@dataclass(frozen=True, slots=True)
class Found:
    """The scoring that a window asks for, the files it is of, and its rows if a look tells."""

    spec: Spec
    sources: Sequence[Source]
    rows: int | None


def look(
    cursor: Cursor,
    known: Schedule,
    *,
    request: ScoringRequest,
    model: RegisteredModel,
    workers: Sequence[Worker],
    store_url: str,
) -> Found:
    """Find and inspect the files. Raises InputMissing, InvalidInput, SettingsError, Unavailable."""
    try:
        # pyarrow: a hub that never sees a schedule does not load it.
        from shunter.storage.scoring.parquet import UnreadableInput  # noqa: PLC0415
        from shunter.storage.scoring.resolving import resolve  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise SettingsError(f"{error}: install shunter[scoring] where workers run") from error
    try:
        sources = find_sources(request.input)
    except NotFound as error:
        raise InputMissing(error.message) from error
    if known.definition.incremental:
        sources = unscored(cursor, known, sources)
        if not sources:
            raise NothingNew(f"every file of {request.input} was scored in an earlier window")
    try:
        # A file that somebody is still writing is empty, or torn.
        spec, rows = resolve(request, model, sources, workers, store_url=store_url)
    except (EmptyRows, UnreadableInput) as error:
        raise InputMissing(error.message) from error
    if spec.table is not None and spec.key is not None:
        TableSink(spec.table, spec.key).check()
    return Found(spec, sources, rows)
