"""Ten ways for a fleet to be unwell: each is really done, then doctor, status and the job are asked."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from shunter.migrations import migrate
from tests.ailments.arena import Arena
from tests.object_store_servers import ACCESS_KEY, SECRET_KEY, moto_server
from tests.waiting import wait_until

WITHIN_S = 60.0

SHIFTED_CLOCK = "import time\n_true = time.time\ntime.time = lambda: _true() + 3600\n"
"""Stands in for a machine whose clock is an hour ahead: Python's, in one process, by sitecustomize."""


@dataclass(frozen=True, slots=True)
class Told:
    """What three places said; `job` is what became of the submission."""

    doctor: str
    status: str
    job: str


@dataclass(frozen=True, slots=True)
class Way:
    """One ailment, and the words by which its cause is named."""

    name: str
    inflict: Callable[[Arena], Told]
    cause: str

    def named_by(self, told: Told) -> dict[str, bool]:
        """Which of the three named the cause."""
        said = {"doctor": told.doctor, "status": told.status, "job": told.job}
        return {place: bool(re.search(self.cause, text)) for place, text in said.items()}


def unwell(arena: Arena, **changes: str) -> str:
    """The lines of the doctor that are not ok."""
    lines = arena.shunter("doctor", **changes).splitlines()
    return "\n".join(line for line in lines if not line.startswith("ok "))


def fact(status: str, name: str) -> str:
    """One line of `shunter status`."""
    return next((line for line in status.splitlines() if line.startswith(name)), "")


def waiting(arena: Arena, id: str, **changes: str) -> str:
    """What a job waits for."""
    status = arena.shunter("status", id, **changes)
    return fact(status, "waiting") or status


def ended(arena: Arena, id: str) -> str:
    """A job's state and error, once it has ended."""

    def look() -> str:
        status = arena.shunter("status", id)
        return status if re.search(r"^state +(failed|succeeded|expired)", status, re.MULTILINE) else ""

    status = wait_until(look, WITHIN_S)
    return "; ".join(filter(None, (fact(status, "state"), fact(status, "error"))))


def no_worker(arena: Arena) -> Told:
    with arena.worker("--models", "other"):
        id = arena.submit("double")
        return Told(unwell(arena), waiting(arena, id), "accepted, waits")


def redis_gone(arena: Arena) -> Told:
    with arena.worker("--models", "double"):
        arena.redis.stop()
        id = arena.submit("double")
        told = wait_until(lambda: _if(waiting(arena, id.splitlines()[-1]), "Redis"), WITHIN_S)
        return Told(unwell(arena), told, "accepted and stored; " + " ".join(id.splitlines()[:-1]))


def postgres_read_only(arena: Arena) -> Told:
    with arena.worker("--models", "double"):
        id = arena.submit("double")
        ended(arena, id)
        database = arena.settings.database_url.rpartition("/")[2]
        arena.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        arena.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        return Told(unwell(arena), fact(arena.shunter("status", id), "state"), arena.submit("double"))


def disk_full(arena: Arena) -> Told:
    disk = arena.directory / "objects"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    try:
        (disk / "fill").write_bytes(b"x" * 60 * 1024)
        with suppress(OSError), (disk / "more").open("wb", buffering=0) as more:
            while more.write(b"x" * 1024):
                pass
        with arena.worker("--models", "wide"):
            id = arena.submit("wide")
            told = wait_until(lambda: _if(waiting(arena, id), "tried again|No space"), WITHIN_S)
            job = arena.shunter("status", id, "--timeline")
            return Told(unwell(arena), told, fact(job, "error") or told)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def wrong_bucket(arena: Arena) -> Told:
    with moto_server() as access:
        changes = {
            "SHUNTER_OBJECT_STORE": "s3://no-such-bucket/prefix",
            "AWS_ENDPOINT_URL": access.endpoint_url or "",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        with arena.worker("--models", "wide", **changes):
            id = arena.submit("wide")
            told = wait_until(lambda: _if(waiting(arena, id, **changes), "tried again|bucket"), WITHIN_S)
            rows = arena.directory / "large.jsonl"
            rows.write_text('"' + "x" * 300_000 + '"\n')
            job = arena.shunter("submit", "wide", "--file", str(rows), **changes)
            return Told(unwell(arena, **changes), told, job)


def broken_model(arena: Arena) -> Told:
    with arena.worker("--models", "broken"):
        id = arena.submit("broken")
        told = wait_until(lambda: _if(waiting(arena, id), "loaded|tried again"), WITHIN_S)
        job = ended(arena, id)
        return Told(unwell(arena), told, job)


def clock_off(arena: Arena) -> Told:
    shim = arena.directory / "shim"
    shim.mkdir()
    (shim / "sitecustomize.py").write_text(SHIFTED_CLOCK)
    path = os.pathsep.join([str(shim), os.environ.get("PYTHONPATH", "")])
    with arena.worker("--models", "double", PYTHONPATH=path):
        id = arena.submit("double")
        job = ended(arena, id)
        doctor = wait_until(lambda: _if(unwell(arena), "clock"), WITHIN_S)
        return Told(doctor, "(its times are those of Postgres)", job)


def old_migration(arena: Arena) -> Told:
    id = arena.submit("double")
    migrate(arena.settings.database_url, "-1")
    return Told(unwell(arena), arena.shunter("status", id), arena.submit("double"))


def hung_worker(arena: Arena) -> Told:
    with arena.worker("--models", "slow") as worker:
        id = arena.submit("slow")
        wait_until(lambda: _if(arena.shunter("status", id), "running"), WITHIN_S)
        worker.send_signal(signal.SIGSTOP)
        told = wait_until(lambda: _if(waiting(arena, id), "silent"), WITHIN_S)
        return Told(unwell(arena), told, "running, goes to the next live worker")


def quota(arena: Arena) -> Told:
    with arena.worker("--models", "double", "--memory", "1MiB"):
        id = arena.submit("double")
        told = wait_until(lambda: _if(waiting(arena, id), "memory|tried again"), WITHIN_S)
        job = ended(arena, id)
        return Told(unwell(arena), told, job)


WAYS = (
    Way("no worker for the version", no_worker, "no live worker serves"),
    Way("Redis gone", redis_gone, "Redis.*(does|did) not answer"),
    Way("Postgres read-only", postgres_read_only, "read-only"),
    Way("disk full", disk_full, "No space left"),
    Way("wrong bucket", wrong_bucket, "no such bucket"),
    Way("model that cannot load", broken_model, r"no weights\.pt"),
    Way("clock off", clock_off, "clock of worker .* ahead"),
    Way("old migration", old_migration, "shunter migrate"),
    Way("worker hung", hung_worker, "silent for"),
    Way("quota of memory", quota, "--memory|memory"),
)


def _if(text: str, pattern: str) -> str:
    """The text, once it holds what is waited for."""
    return text if re.search(pattern, text) else ""


def renamed(told: Told, arena: Arena) -> Told:
    """Without the paths and names of this machine."""
    host = os.uname().nodename

    def clean(text: str) -> str:
        text = text.replace(str(arena.directory), "DIR").replace(host, "HOST")
        text = re.sub(r"127\.0\.0\.1:\d+", "HOST:PORT", text)
        return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", text)

    return replace(told, doctor=clean(told.doctor), status=clean(told.status), job=clean(told.job))


def inflict(way: Way, arena: Arena) -> Told:
    """What was said of one ailment."""
    return renamed(way.inflict(arena), arena)


def directory_of(way: Way, root: Path) -> Path:
    """Where an ailment is tried."""
    return root / way.name.replace(" ", "-").lower()
