"""What a window would score, if it were begun now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from shunter.storage.database import Cursor
from shunter.storage.errors import EmptyRows, InvalidInput, NotFound, SettingsError
from shunter.storage.model_registry import RegisteredModel
from shunter.storage.schedules.definition import Schedule
from shunter.storage.schedules.rounds import unscored
from shunter.storage.scoring.formats import PARQUET
from shunter.storage.scoring.request import ScoringRequest
from shunter.storage.scoring.sources import Source, find_sources
from shunter.storage.scoring.spec import Spec
from shunter.storage.scoring.table_sink import TableSink
from shunter.storage.worker_registry import Worker


class InputMissing(NotFound):
    """A window's input is not there, or not whole yet."""

    code = "input_missing"


class NothingNew(InputMissing):
    """Every file or row of a window's input was scored in an earlier one."""

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
        if known.definition.incremental_by is not None:
            spec, sources, rows = _past(known, known.definition.incremental_by, spec, sources)
    except (EmptyRows, UnreadableInput) as error:
        raise InputMissing(error.message) from error
    if spec.table is not None and spec.key is not None:
        TableSink(spec.table, spec.key).check()
    return Found(spec, sources, rows)


def _past(
    known: Schedule, column: str, spec: Spec, sources: Sequence[Source]
) -> tuple[Spec, list[Source], int]:
    """The scoring of only those rows whose value in a column no window has come to yet."""
    from shunter.storage.scoring.watermark import survey  # noqa: PLC0415

    if spec.input_format != PARQUET:
        raise InvalidInput(
            f"{spec.input} is {spec.input_format}, and incremental_by needs Parquet: add a schedule that is "
            "incremental, by files",
            field="incremental_by",
        )
    found, rows, watermark = survey(sources, column, known.watermark)
    if watermark is None:
        mark = "any value" if known.watermark is None else f"a value greater than {known.watermark.value}"
        raise NothingNew(f"no row of {spec.input} has {mark} in {column}")
    return replace(spec, watermark=watermark), found, rows
