"""Redis or Postgres has no room left: who submits is told to try again or notices nothing, and all ends."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

import pytest
import redis

from shunter.storage.errors import DatabaseUnavailable, Unavailable
from shunter.storage.job import JobState
from tests.faults.arena import MODEL, Arena, arena, size
from tests.waiting import wait_until

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]

DISK = "size=320m"
ROW_CHARS = 200_000
"""Of a row that stands in Postgres itself."""


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """A file system of its own, which can be filled."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", str(directory)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def fill(disk: Path) -> Path:
    """Leave nothing free; returns what takes the room."""
    ballast = disk / "ballast"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with ballast.open("wb") as file, suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, free)
    return ballast


def set_maxmemory(place: Arena, value: str) -> None:
    """As an operator does it."""
    with redis.Redis.from_url(place.redis.url) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", value)


def test_a_redis_without_memory_refuses_no_submit_and_stops_no_worker(tmp_path: Path) -> None:
    with arena(tmp_path, row_s=0.005, max_rows=16) as place:
        hub = place.start_hub()
        before = place.submit(400)
        wait_until(lambda: place.done() > 20, 60)
        set_maxmemory(place, "1")
        while_full = [
            place.client.submit(MODEL, [number]) for number in range(len(place.sent), len(place.sent) + 50)
        ]
        place.sent.update({job.job_id: number for number, job in enumerate(while_full, len(place.sent))})
        # What had been pushed before is claimed and done all the same: deleting makes room.
        place.wait(before)
        set_maxmemory(place, "0")
        place.wait()
        assert place.tally().sound
        assert not hub.dead
        print(f"measured: producers saw {len(while_full)} jobs accepted and none refused")


def test_a_postgres_without_disk_refuses_submits_as_retryable_and_ends_all_it_accepted(
    tmp_path: Path,
) -> None:
    refusals: Counter[str] = Counter()
    accepted: list[UUID] = []
    with small_disk(tmp_path / "postgres") as disk, arena(tmp_path, row_s=0.001, max_rows=16) as place:
        hub = place.start_hub()
        place.submit(50)
        ballast = fill(disk)
        for number in range(len(place.sent), len(place.sent) + 400):
            try:
                accepted.append(place.client.submit(MODEL, [number, "x" * ROW_CHARS]).job_id)
            except Unavailable as error:
                refusals[error.code] += 1
                if refusals.total() > size(20, 60):
                    break
        assert refusals
        assert set(refusals) == {DatabaseUnavailable.code}
        ballast.unlink()
        if place.postgres.process.poll() is not None:
            # What a supervisor does; nobody touches the data.
            place.restart_postgres()
        wait_until(lambda: not _open_jobs(place), 120)
        place.submit(20)
        place.wait()
        assert place.tally().sound
        assert {job.state for job in place.repository.get_many(accepted).values()} <= {JobState.SUCCEEDED}
        assert not hub.dead
        print(f"measured: producers saw {len(accepted)} jobs accepted and {dict(refusals)}")


def _open_jobs(place: Arena) -> int:
    with suppress(Unavailable):
        return int(place.ask("SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')")[0][0])
    return -1
