"""What moves scorings on, as statements within the duties' transactions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg2.extras import Json, execute_values

from shunter.storage.database import Cursor, fetch_all
from shunter.storage.errors import NotFound, ObjectNotFound
from shunter.storage.ids import new_ids
from shunter.storage.job import JobState, NewJob, Priority
from shunter.storage.job_insertion import insert_jobs
from shunter.storage.scoring.chunk import Chunk, Place, Span, encode_chunk
from shunter.storage.scoring.destination import open_destination
from shunter.storage.scoring.repository import COLUMNS, OPEN_JOBS, scoring
from shunter.storage.scoring.sources import InputChanged, Source
from shunter.storage.scoring.spec import Scoring, ScoringState, errors_allowed

UNDER_WAY = f"SELECT id FROM scorings WHERE state = '{ScoringState.RUNNING}' ORDER BY id"

LOCK = f"""
SELECT {COLUMNS}, place, sources -> (place ->> 'file')::int AS source FROM scorings
WHERE id = %s AND state = '{ScoringState.RUNNING}' FOR UPDATE SKIP LOCKED
"""

HARVEST = f"""
UPDATE scoring_chunks SET state = jobs.state, rows_succeeded = jobs.rows_succeeded,
    rows_failed = jobs.rows - jobs.rows_succeeded, part = convert_from(jobs.output, 'UTF8')::jsonb,
    error = jobs.error, finished_at = jobs.finished_at
FROM jobs
WHERE scoring = %(scoring)s AND scoring_chunks.state IS NULL AND jobs.id = job
  AND jobs.id = ANY(%(ids)s::uuid[]) AND jobs.state NOT IN ('{JobState.QUEUED}', '{JobState.RUNNING}')
RETURNING scoring_chunks.rows_succeeded, scoring_chunks.rows_failed
"""

# Retention may be faster than the planner, if no hub has run one for long.
GIVE_UP = f"""
UPDATE scoring_chunks SET state = '{JobState.FAILED}', rows_failed = rows, error = %(error)s
WHERE scoring = %(scoring)s AND state IS NULL AND job = ANY(%(ids)s::uuid[])
  AND NOT EXISTS (SELECT FROM jobs WHERE jobs.id = job AND jobs.id = ANY(%(ids)s::uuid[]))
RETURNING rows_succeeded, rows_failed
"""

JOB_REMOVED = {
    "code": "job_removed",
    "message": "the chunk's job was removed by retention before its outcome was taken over: "
    "run its rows again with --retry-errors",
}

COUNT = """
UPDATE scorings SET rows_succeeded = rows_succeeded + %(succeeded)s, rows_failed = rows_failed + %(failed)s
WHERE id = %(id)s
"""

INSERT_CHUNKS = "INSERT INTO scoring_chunks (scoring, number, job, span, rows) VALUES %s"

ADVANCE = """
UPDATE scorings SET place = %(place)s, planned = %(planned)s, chunks = chunks + %(chunks)s,
    planned_rows = planned_rows + %(rows)s,
    total_rows = CASE WHEN %(planned)s THEN planned_rows + %(rows)s ELSE total_rows END
WHERE id = %(id)s
"""

CHUNKS = """
SELECT number, span, state, rows, rows_succeeded, rows_failed, part, error, finished_at FROM scoring_chunks
WHERE scoring = %(id)s AND number >= %(first)s ORDER BY number LIMIT %(limit)s
"""

FAILING = """
SELECT number, span, rows_failed FROM scoring_chunks
WHERE scoring = %(id)s AND number >= %(first)s AND rows_failed > 0 ORDER BY number LIMIT %(limit)s
"""

SCHEMAS = """
SELECT part ->> 'schema' AS schema FROM scoring_chunks
WHERE scoring = %s AND part ->> 'schema' IS NOT NULL GROUP BY 1 ORDER BY min(number)
"""

GONE = """
SELECT error FROM scoring_chunks WHERE scoring = %(id)s AND error ->> 'code' = ANY(%(codes)s)
ORDER BY number LIMIT 1
"""

PAGE = 256


@dataclass(frozen=True, slots=True)
class Standing:
    """A scoring under way, what is to be planned next, and of which file; None when all are planned."""

    scoring: Scoring
    place: Place
    source: Source | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkRecord:
    """A chunk as stored; `state` is None until its job has ended, `part` what the job has written."""

    number: int
    span: dict[str, Any]
    state: JobState | None
    rows: int
    rows_succeeded: int
    rows_failed: int
    part: dict[str, Any] | None
    error: dict[str, Any] | None
    finished_at: datetime | None


def under_way(cursor: Cursor) -> list[UUID]:
    """The scorings that have not ended, oldest first."""
    cursor.execute(UNDER_WAY)
    return [row[0] for row in cursor.fetchall()]


def stand(cursor: Cursor, id: UUID) -> Standing | None:
    """A scoring, locked to be moved on; None if it has ended, or another duty has it."""
    cursor.execute(LOCK, (id,))
    found = fetch_all(cursor)
    if not found:
        return None
    plan, source = found[0].pop("place"), found[0].pop("source")
    return Standing(scoring(found[0]), Place(**plan), None if source is None else Source(**source))


def source_at(cursor: Cursor, id: UUID, file: int) -> Source:
    """One file of a scoring's input."""
    cursor.execute("SELECT sources -> %s FROM scorings WHERE id = %s", (file, id))
    (document,) = cursor.fetchone() or (None,)
    assert document is not None, "a chunk is of a file of its scoring; this is a bug"
    return Source(**document)


def harvest(cursor: Cursor, id: UUID) -> tuple[int, int, int]:
    """Take over what jobs have come to: rows that succeeded, that failed, and the chunks still open."""
    cursor.execute(OPEN_JOBS, (id,))
    jobs = [row[0] for row in cursor.fetchall()]
    if not jobs:
        return 0, 0, 0
    cursor.execute(HARVEST, {"scoring": id, "ids": jobs})
    ended = cursor.fetchall()
    if len(ended) < len(jobs):
        cursor.execute(GIVE_UP, {"scoring": id, "ids": jobs, "error": Json(JOB_REMOVED)})
        ended += cursor.fetchall()
    succeeded, failed = (sum(counts[place] for counts in ended) for place in (0, 1))
    if ended:
        cursor.execute(COUNT, {"id": id, "succeeded": succeeded, "failed": failed})
    return succeeded, failed, len(jobs) - len(ended)


def add_chunks(
    cursor: Cursor, standing: Standing, chunks: Sequence[Chunk], *, after: Place, planned: bool
) -> tuple[list[NewJob], datetime]:
    """Store chunks, their jobs and how far the planning has come; the jobs, and when they were queued."""
    jobs = [_job(standing.scoring, id, chunk) for id, chunk in zip(new_ids(len(chunks)), chunks, strict=True)]
    enqueued_at = insert_jobs(cursor, jobs)
    rows = [
        (chunk.scoring, chunk.number, job.id, Json(chunk.span.document()), chunk.span.count)
        for chunk, job in zip(chunks, jobs, strict=True)
    ]
    if rows:
        execute_values(cursor, INSERT_CHUNKS, rows)
    names = {"chunks": len(chunks), "rows": sum(chunk.span.count for chunk in chunks)}
    cursor.execute(
        ADVANCE,
        {**names, "id": standing.scoring.id, "place": Json(after.document()), "planned": planned},
    )
    return jobs, enqueued_at


def each_chunk(cursor: Cursor, id: UUID) -> Iterator[ChunkRecord]:
    """Every chunk in order, read a page at a time."""
    first = 0
    while True:
        cursor.execute(CHUNKS, {"id": id, "first": first, "limit": PAGE})
        page = [ChunkRecord(**row) for row in fetch_all(cursor)]
        yield from page
        if len(page) < PAGE:
            return
        first = page[-1].number + 1


def finished(cursor: Cursor, id: UUID) -> Scoring | None:
    """A scoring of which every chunk has ended, locked to be published; None if there is more to do."""
    standing = stand(cursor, id)
    if standing is None or not standing.scoring.planned:
        return None
    cursor.execute(OPEN_JOBS, (id,))
    return standing.scoring if cursor.fetchone() is None else None


def gone_unread(cursor: Cursor, scoring: Scoring) -> dict[str, Any] | None:
    """Why no mark may move past a window's rows, if so: a file is not any more what it was.

    Nobody has read such rows, and --retry-errors cannot either: they are left to the next window.
    """
    if scoring.spec.watermark is None or scoring.spec.retries is not None:
        return None
    codes = [InputChanged.code, NotFound.code, ObjectNotFound.code]
    cursor.execute(GONE, {"id": scoring.id, "codes": codes})
    found = cursor.fetchone()
    return None if found is None else dict(found[0])


def schemas(cursor: Cursor, id: UUID) -> list[str]:
    """The different schemas of a scoring's parts, in the order in which they first come."""
    cursor.execute(SCHEMAS, (id,))
    return [row[0] for row in cursor.fetchall()]


def failing_chunks(cursor: Cursor, id: UUID, *, first: int, limit: int) -> list[tuple[int, Span, int]]:
    """Chunks with failed rows from number `first` on: their numbers, spans, and how many rows failed."""
    cursor.execute(FAILING, {"id": id, "first": first, "limit": limit})
    return [(number, Span(**span), failed) for number, span, failed in cursor.fetchall()]


def _job(scoring: Scoring, id: UUID, chunk: Chunk) -> NewJob:
    return NewJob(
        id=id,
        tenant=scoring.tenant,
        model=scoring.spec.model,
        version=scoring.spec.version,
        rows=chunk.span.count,
        priority=Priority.from_label(scoring.spec.priority),
        metadata={"scoring": str(scoring.id), "chunk": chunk.number},
        input=encode_chunk(chunk),
    )


def too_many_errors(scoring: Scoring) -> dict[str, Any] | None:
    """Why a scoring stops for its failed rows, if it does; a share counts once all rows are known."""
    limit, rows = scoring.spec.max_errors, scoring.total_rows
    if limit is None or (rows is None and limit.endswith("%")):
        return None
    allowed = errors_allowed(limit, rows or 0)
    if scoring.rows_failed <= allowed:
        return None
    message = (
        f"{scoring.rows_failed} rows failed, and {limit} may ({allowed} rows): what they said lies in "
        f"{open_destination(scoring.spec.output, scoring.id).parts}"
    )
    return {"code": "too_many_errors", "message": message}
