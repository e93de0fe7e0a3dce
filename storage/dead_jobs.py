"""Jobs that failed for good, and rows that failed in jobs that did not: found, explained, and read again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from shunter.storage import attempts
from shunter.storage.attempts import Attempt
from shunter.storage.database import Database, fetch_all
from shunter.storage.errors import NotRedrivable, UnknownJob
from shunter.storage.job import DEFAULT_TENANT, Job, JobState
from shunter.storage.job_repository import JobRepository
from shunter.storage.results import Blob

DEAD = f"state = '{JobState.FAILED}'"
WITH_FAILED_ROWS = f"(state = '{JobState.FAILED}' OR state = '{JobState.SUCCEEDED}' AND rows_failed > 0)"

INPUT = "SELECT input, input_key FROM jobs WHERE id = %(id)s AND tenant = %(tenant)s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which dead jobs are meant; what is None does not matter.

    `partial` takes in jobs that succeeded with failed rows; `since_s` is how long ago they ended at most.
    """

    model: str | None = None
    code: str | None = None
    since_s: float | None = None
    partial: bool = False


class DeadJobs:
    """Reads what a redrive needs; writes nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._jobs = JobRepository(database)

    def find(
        self, wanted: Filter, *, before: UUID | None = None, limit: int = 100, tenant: str = DEFAULT_TENANT
    ) -> list[Job]:
        """The newest first, older than `before`."""
        conditions = {
            "model = %(model)s": wanted.model,
            "error->>'code' = %(code)s": wanted.code,
            "finished_at >= now() - make_interval(secs => %(since_s)s)": wanted.since_s,
            "id < %(before)s": before,
        }
        where = ["tenant = %(tenant)s", WITH_FAILED_ROWS if wanted.partial else DEAD]
        where += [condition for condition, value in conditions.items() if value is not None]
        names: dict[str, Any] = {"tenant": tenant, "before": before, "limit": limit}
        names |= {"model": wanted.model, "code": wanted.code, "since_s": wanted.since_s}
        statement = f"SELECT id FROM jobs WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT %(limit)s"
        with self._database.transaction() as cursor:
            cursor.execute(statement, names)
            ids = [row[0] for row in cursor.fetchall()]
        found = self._jobs.get_many(ids, tenant=tenant)
        return [found[id] for id in ids if id in found]

    def history(self, id: UUID) -> list[Attempt]:
        """The failed runs of a job that are remembered, the oldest first."""
        with self._database.transaction() as cursor:
            return attempts.history(cursor, id)

    def input(self, id: UUID, *, tenant: str = DEFAULT_TENANT) -> Blob:
        """Where a job's rows are; UnknownJob."""
        with self._database.transaction() as cursor:
            cursor.execute(INPUT, {"id": id, "tenant": tenant})
            for row in fetch_all(cursor):
                inline = row["input"]
                return Blob(None if inline is None else bytes(inline), row["input_key"])
        raise UnknownJob(id)

    def failed_rows(self, job: Job) -> list[int]:
        """The rows of a job that a redrive runs again, in their order; NotRedrivable if there are none."""
        stored = self._jobs.results([job.id], tenant=job.tenant)
        if job.state not in (JobState.FAILED, JobState.SUCCEEDED) or job.id not in stored:
            raise NotRedrivable(job.id, f"it is {job.state}: only failed jobs and rows can be redriven")
        rows = sorted(failure.index for failure in stored[job.id].row_failures())
        if not rows:
            raise NotRedrivable(job.id, "all its rows succeeded")
        return rows
