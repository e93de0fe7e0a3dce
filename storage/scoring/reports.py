"""Reports of scorings in Postgres: expected with the end, built once, and compared with what came before."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson
from psycopg2.extras import Json

from shunter.storage.database import Cursor, Database
from shunter.storage.errors import NoReport, ReportPending
from shunter.storage.scoring.spec import Scoring


class ReportState(StrEnum):
    """Where a report stands; only `pending` is ever left."""

    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"


EXPECT = "INSERT INTO scoring_reports (scoring) VALUES (%s) ON CONFLICT DO NOTHING"

PREVIOUS = "previous"
"""The name of the run before this one, among references."""

PENDING = f"SELECT scoring FROM scoring_reports WHERE state = '{ReportState.PENDING}' ORDER BY scoring"

HOLD = f"""
SELECT true FROM scoring_reports
WHERE scoring = %s AND state = '{ReportState.PENDING}' FOR UPDATE SKIP LOCKED
"""

CONCLUDE = f"""
UPDATE scoring_reports SET state = %(state)s, drifted = %(drifted)s, document = %(document)s,
    page_key = %(page_key)s, columns = %(columns)s
WHERE scoring = %(scoring)s AND state = '{ReportState.PENDING}' RETURNING scoring
"""

GET = "SELECT state, drifted, document, page_key FROM scoring_reports WHERE scoring = %s"

NAMED = f"""
SELECT scorings.id, (spec ->> 'version')::int, finished_at, columns
FROM scorings JOIN scoring_reports ON scoring = scorings.id
WHERE scorings.id = %(compare_to)s AND tenant = %(tenant)s AND scoring_reports.state = '{ReportState.READY}'
"""

# One run after another differs in its output by a date or a number at most.
SERIES = f"""
SELECT scorings.id, (spec ->> 'version')::int, finished_at, columns
FROM scorings JOIN scoring_reports ON scoring = scorings.id
WHERE tenant = %(tenant)s AND scorings.id < %(id)s AND spec ->> 'model' = %(model)s
  AND scoring_reports.state = '{ReportState.READY}'
  AND regexp_replace(coalesce(spec ->> 'table', output), '[0-9]+', '0', 'g')
    = regexp_replace(%(output)s, '[0-9]+', '0', 'g')
ORDER BY scorings.id DESC LIMIT 1
"""

OF_SCHEDULE = f"""
SELECT scorings.id, (spec ->> 'version')::int, finished_at, columns
FROM scorings JOIN scoring_reports ON scoring = scorings.id
WHERE tenant = %(tenant)s AND schedule_name = %(schedule_name)s AND window_start < %(window_start)s
  AND spec ->> 'model' = %(model)s AND scoring_reports.state = '{ReportState.READY}'
ORDER BY window_start DESC LIMIT 1
"""

SAVE_PROFILE = """
INSERT INTO model_profiles (model, version, source, rows, columns)
VALUES (%(model)s, %(version)s, %(source)s, %(rows)s, %(columns)s)
ON CONFLICT (model, version) DO UPDATE
SET source = excluded.source, rows = excluded.rows, columns = excluded.columns, created_at = now()
"""

PROFILE = "SELECT source, rows, columns FROM model_profiles WHERE model = %s AND version = %s"


# Not behind an odd number of backslashes, which would make it text that looks so.
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report that is there: whether the scoring drifted (None: nothing to compare with), and its page."""

    drifted: bool | None
    document: dict[str, Any]
    page_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What columns are compared with: sketches, and in words and rows what they are of."""

    name: str
    facts: Mapping[str, Any]
    columns: bytes


def expect(cursor: Cursor, scoring: UUID) -> None:
    """A report is to be built, of a scoring that ends in this transaction."""
    cursor.execute(EXPECT, (scoring,))


def pending(cursor: Cursor) -> list[UUID]:
    """The scorings whose reports are to be built, oldest first."""
    cursor.execute(PENDING)
    return [row[0] for row in cursor.fetchall()]


def hold(cursor: Cursor, scoring: UUID) -> bool:
    """Lock a pending report until this transaction ends; False if it is done, or somebody else's."""
    cursor.execute(HOLD, (scoring,))
    return cursor.fetchone() is not None


def conclude(
    cursor: Cursor,
    scoring: UUID,
    state: ReportState,
    document: Mapping[str, Any],
    *,
    drifted: bool | None = None,
    page_key: str | None = None,
    columns: bytes | None = None,
) -> bool:
    """Keep what a pending report has come to; whether it was pending."""
    names = {"scoring": scoring, "state": state, "drifted": drifted, "page_key": page_key, "columns": columns}
    cursor.execute(CONCLUDE, {**names, "document": Json(document, dumps=_text)})
    return cursor.fetchone() is not None


def _text(document: Any) -> str:
    """A document as Postgres takes it: what is no number is null, and NUL is spelt."""
    return _NUL.sub(r"\1\\\\x00", orjson.dumps(document).decode())


def references(cursor: Cursor, scoring: Scoring) -> list[Reference]:
    """What a scoring's columns are compared with: the profile of its version, and the run before it.

    The failed rows of an earlier scoring are no sample of anything, and are compared with nothing.
    """
    if scoring.spec.retries is not None:
        return []
    found = [profile(cursor, scoring.spec.model, scoring.spec.version), previous(cursor, scoring)]
    return [reference for reference in found if reference is not None]


def missing(scoring: Scoring, references: Sequence[Reference]) -> str | None:
    """The scoring that somebody named to compare with, if retention has forgotten it meanwhile."""
    found = any(reference.name == PREVIOUS for reference in references)
    return None if found or scoring.spec.retries is not None else scoring.spec.compare_to


def profile(cursor: Cursor, model: str, version: int) -> Reference | None:
    """The reference profile of a model version, if it has one."""
    cursor.execute(PROFILE, (model, version))
    row = cursor.fetchone()
    if row is None:
        return None
    return Reference(name="profile", facts={"source": row[0], "rows": row[1]}, columns=bytes(row[2]))


def previous(cursor: Cursor, scoring: Scoring) -> Reference | None:
    """The run before this one, if its report is there: the one that was named, else the last of the series.

    A series is a schedule, or what has the same model and the same output but for its digits.
    """
    if scoring.spec.compare_to is not None:
        question = NAMED
    else:
        question = SERIES if scoring.schedule_name is None else OF_SCHEDULE
    names = {
        "id": scoring.id,
        "tenant": scoring.tenant,
        "model": scoring.spec.model,
        "output": scoring.spec.table or scoring.spec.output,
        "compare_to": scoring.spec.compare_to,
        "schedule_name": scoring.schedule_name,
        "window_start": scoring.window_start,
    }
    cursor.execute(question, names)
    row = cursor.fetchone()
    if row is None:
        return None
    id, version, finished_at, columns = row
    facts = {"scoring": str(id), "version": version, "finished_at": finished_at.isoformat()}
    return Reference(name=PREVIOUS, facts=facts, columns=bytes(columns))


class ReportRepository:
    """Reports for those who ask for them, and profiles for those who make them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, scoring: Scoring) -> Report:
        """Raises ReportPending, NoReport saying why, Unavailable."""
        with self._database.transaction() as cursor:
            cursor.execute(GET, (scoring.id,))
            row = cursor.fetchone()
        if row is None:
            raise _none(scoring)
        state, drifted, document, page_key = row
        if state == ReportState.PENDING:
            raise ReportPending(f"the report of {scoring.id} is being built: ask again in some seconds")
        if state == ReportState.FAILED:
            raise NoReport(f"the report of {scoring.id} could not be built: {document['error']}")
        return Report(drifted=drifted, document=document, page_key=page_key)

    def save_profile(self, model: str, version: int, *, source: str, rows: int, columns: bytes) -> None:
        """Keep a model version's reference profile, in place of an earlier one."""
        names = {"model": model, "version": version, "source": source, "rows": rows, "columns": columns}
        with self._database.transaction() as cursor:
            cursor.execute(SAVE_PROFILE, names)


def _none(scoring: Scoring) -> NoReport | ReportPending:
    if not scoring.state.done:
        return ReportPending(
            f"the scoring {scoring.id} is {scoring.state}: its report comes when it is complete"
        )
    return NoReport(f"the scoring {scoring.id} is {scoring.state}, and has no report: complete ones have")


def page_key(scoring: UUID) -> str:
    """The object that holds a report's page; whoever builds it again writes the same."""
    return f"reports/{scoring}.html"
