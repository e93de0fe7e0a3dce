"""What users give as rows, and how many of them share a job."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from shunter.storage.envelope import MAX_ROWS
from shunter.storage.errors import EmptyRows, InvalidInput

MIN_PACKED_ROWS = 8
"""`submit_many` makes no smaller jobs, so that a short list is not spread thinner than it is worth."""

PACKED_JOBS = 16
"""`submit_many` makes about so many jobs of a short list, so that several workers share it."""


def packed_rows(count: int, max_rows: int) -> int:
    """Rows to a job of `submit_many`: full batches of a long list, an even spread of a short one."""
    return min(MAX_ROWS, max_rows, max(MIN_PACKED_ROWS, math.ceil(count / PACKED_JOBS)))


def as_rows(rows: object) -> Sequence[object]:
    """The rows of a submission as a sequence; a table gives one dict per row.

    Raises InvalidInput for what is one value rather than several, EmptyRows for none.
    """
    values = rows if isinstance(rows, list) else list(each_row(rows))
    if not values:
        raise EmptyRows("there are no rows: give at least one", field="inputs")
    return values


def each_job(jobs: object) -> list[Sequence[object]]:
    """The rows of each job of a submission; InvalidInput, or EmptyRows, naming the job that is none."""
    checked: list[Sequence[object]] = []
    for index, rows in enumerate(as_rows(jobs)):
        try:
            checked.append(as_rows(rows))
        except InvalidInput as error:
            raise type(error)(f"job {index}: {error.message}", field="inputs") from error
    return checked


def each_row(rows: object) -> Iterable[object]:
    """The rows one by one, as they come; InvalidInput for what is one value rather than several."""
    table = _table_rows(rows)
    if table is not None:
        return table
    refused = (str, bytes, bytearray, dict, int, float, bool, type(None))
    if isinstance(rows, refused) or not isinstance(rows, Iterable) or getattr(rows, "shape", None) == ():
        raise InvalidInput(
            f"rows is a single {type(rows).__name__}: give a list of rows, for one row `[row]`",
            field="inputs",
        )
    return rows


def _table_rows(rows: object) -> list[object] | None:
    """The rows of a pandas or Arrow table, recognised without importing either."""
    if hasattr(rows, "to_pylist") and hasattr(rows, "schema"):
        return list(rows.to_pylist())
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):
        return list(rows.to_dict(orient="records"))
    return None
