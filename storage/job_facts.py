"""What a verification reads of jobs: facts without payloads, in pages, each a short transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from shunter.storage.database import Cursor, Database, fetch_all
from shunter.storage.job import JobState
from shunter.storage.payload import HEADER_BYTES
from shunter.storage.scoring.chunk import MAGIC

PAGE = 1_000

STATEMENT_TIMEOUT_MS = 30_000

# `IS NOT NULL` of a block does not read the block, and its head is read without the rest.
FACTS = f"""
SELECT id, state, epoch, rows, rows_succeeded, rows_failed,
    coalesce(jsonb_array_length(row_errors), 0) AS rows_listed, error IS NOT NULL AS has_error,
    coalesce(substring(input FROM 1 FOR {len(MAGIC)}) = '\\x{MAGIC.hex()}', false) AS is_chunk,
    (input IS NOT NULL)::int + (input_key IS NOT NULL)::int AS inputs, input_key,
    (output IS NOT NULL)::int + (output_key IS NOT NULL)::int AS outputs, output_key,
    substring(output FROM 1 FOR {HEADER_BYTES}) AS output_head, worker IS NOT NULL AS has_worker,
    finished_at IS NOT NULL AS has_finished,
    EXISTS (SELECT FROM workers WHERE incarnation = jobs.worker AND ended_at IS NULL) AS worker_is_open,
    coalesce(extract(epoch FROM now() - deadline_at), 0)::float8 AS late_s,
    coalesce(extract(epoch FROM now() - not_before), 0)::float8 AS overslept_s
FROM jobs
"""

NEXT_PAGE = FACTS + "WHERE id > %(after)s ORDER BY id LIMIT %(limit)s"
THESE = FACTS + "WHERE id = ANY(%(ids)s::uuid[])"

FIRST = f"{FACTS} ORDER BY id LIMIT %(limit)s"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFacts:
    """One job, as its row stood at one moment."""

    id: UUID
    state: JobState
    epoch: int
    rows: int
    rows_succeeded: int
    rows_failed: int
    rows_listed: int
    """Rows that `row_errors` names."""
    has_error: bool
    is_chunk: bool
    """Whether its rows are a dataset's: its outputs and errors are in the files that its output names."""
    inputs: int
    """How many places its input is in: one is right."""
    input_key: str | None
    outputs: int
    output_key: str | None
    output_head: bytes | None
    has_worker: bool
    has_finished: bool
    worker_is_open: bool
    late_s: float
    """Seconds since its deadline."""
    overslept_s: float
    """Seconds since its wait for another run was over."""

    @property
    def circumstances(self) -> tuple[JobState, int, int]:
        """What has changed if the job has moved."""
        return self.state, self.epoch, self.rows_failed


class JobFactsReader:
    """Reads facts, and nothing else; a statement that takes too long raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pages(self) -> Iterator[list[JobFacts]]:
        """Every job there is, by id."""
        page = self._ask(FIRST, limit=PAGE)
        while page:
            yield page
            page = self._ask(NEXT_PAGE, after=page[-1].id, limit=PAGE)

    def these(self, ids: Collection[UUID]) -> dict[UUID, JobFacts]:
        """Those of these jobs that exist."""
        wanted = sorted(ids)
        parts = (wanted[start : start + PAGE] for start in range(0, len(wanted), PAGE))
        return {facts.id: facts for part in parts for facts in self._ask(THESE, ids=part)}

    def _ask(self, statement: str, **names: object) -> list[JobFacts]:
        with self._database.transaction() as cursor:
            _limit_time(cursor)
            cursor.execute(statement, names)
            return [_facts(row) for row in fetch_all(cursor)]


def _facts(row: dict[str, Any]) -> JobFacts:
    head = row["output_head"]
    kept = {"state": JobState(row["state"]), "output_head": None if head is None else bytes(head)}
    return JobFacts(**{**row, **kept})


def _limit_time(cursor: Cursor) -> None:
    cursor.execute("SELECT set_config('statement_timeout', %s, true)", (str(STATEMENT_TIMEOUT_MS),))
