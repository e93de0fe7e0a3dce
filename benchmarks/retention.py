"""What it costs to forget a week of jobs: its partition dropped, or its rows deleted in pages.

python -m benchmarks.retention --jobs 200000
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from shunter.embedded import start_postgres
from shunter.migrations import migrate
from shunter.storage import partitions
from shunter.storage.database import Database
from shunter.storage.job_retention import JobRetention, Keep
from shunter.storage.settings import DAY_S

WEEKS_AGO = (4, 6)

# Single-row jobs with small blocks, as most are; the id's first half is its time.
FILL = """
INSERT INTO jobs (id, model, version, priority, rows, rows_succeeded, state, epoch, input, output,
    enqueued_at, created_at, started_at, finished_at)
SELECT (lpad(to_hex((extract(epoch FROM %(moment)s::timestamptz) * 1000)::bigint), 12, '0')
        || '7000' || '8000' || lpad(to_hex(number), 12, '0'))::uuid,
    'digits', 1, 1, 1, 1, 'succeeded', 1, decode(repeat('ab', 300), 'hex'), decode(repeat('cd', 60), 'hex'),
    %(moment)s, %(moment)s, %(moment)s, %(moment)s
FROM generate_series(1, %(jobs)s) AS number
"""

WAL = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8"
SIZE = """
SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::float8
FROM pg_inherits WHERE inhparent = 'jobs'::regclass
"""


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200_000)
    jobs: int = parser.parse_args().jobs
    with (
        tempfile.TemporaryDirectory(prefix="shunter-retention-") as directory,
        start_postgres(Path(directory)) as server,
    ):
        migrate(server.url)
        with closing(Database(server.url)) as database:
            keep = JobRetention(database, Keep(keep_s=7 * DAY_S, keep_failed_s=30 * DAY_S))
            moments = [datetime.now(UTC) - timedelta(weeks=weeks) for weeks in WEEKS_AGO]
            for moment in moments:
                _fill(database, moment, jobs)
            names = [_week_of(moment) for moment in moments]
            print(f"{jobs} jobs{'s':>18}{'WAL MB':>10}{'MB freed':>10}")
            _measure("dropped", database, lambda: keep.drop(names[0]))
            _measure("deleted", database, lambda: _delete(keep, names[1]))


def _fill(database: Database, moment: datetime, jobs: int) -> None:
    with database.transaction() as cursor:
        for statement in partitions.statements(moment, weeks=1):
            cursor.execute(statement)
        cursor.execute(FILL, {"moment": moment, "jobs": jobs})


def _week_of(moment: datetime) -> str:
    return f"{partitions.PREFIX}{moment - timedelta(days=moment.weekday()):%Y%m%d}"


def _delete(keep: JobRetention, name: str) -> bool:
    deleted = 0
    while page := keep.delete_page(name):
        deleted += page
    return bool(deleted)


def _measure(way: str, database: Database, forget: Callable[[], bool]) -> None:
    wal, size, began = _ask(database, WAL), _ask(database, SIZE), time.monotonic()
    assert forget()
    took = time.monotonic() - began
    wrote, freed = _ask(database, WAL) - wal, size - _ask(database, SIZE)
    print(f"{way:12}{took:18.2f}{wrote / 1e6:10.1f}{freed / 1e6:10.1f}", flush=True)


def _ask(database: Database, question: str) -> float:
    with database.statement() as cursor:
        cursor.execute(question)
        return float((cursor.fetchone() or (0.0,))[0])


if __name__ == "__main__":
    main()
