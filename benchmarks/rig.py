"""What measurements stand on: real services and processes of their own, stopped for certain, and counters."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import redis

from shunter import Client
from shunter.embedded import start_postgres, start_redis
from shunter.embedded.server import tethered
from shunter.migrations import migrate
from shunter.storage.database import Database
from shunter.storage.model_registry import ModelRegistry, scan
from shunter.storage.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "benchmarks" / "out"
MODELS = ROOT / "benchmarks" / "models"
PEERS = ROOT / "benchmarks" / "peers"

READY_WITHIN_S = 60.0
STOP_WITHIN_S = 30.0
POLL_S = 0.02

NOOP = """
class Model:
    def forward(self, rows):
        return rows
"""

TIMED = """
import os, time

class Model:
    def load(self, directory, device, seconds=0.02):
        self.seconds = seconds * float(os.environ.get("BENCH_SLOWNESS", "1"))

    def forward(self, rows):
        time.sleep(self.seconds)
        return rows
"""


def say(text: str) -> None:
    """Progress, to stderr, so that stdout holds only the tables."""
    print(f"  {text}", file=sys.stderr, flush=True)


def wait_for(
    is_true: Callable[[], object], what: str, *, within_s: float = READY_WITHIN_S, poll_s: float = POLL_S
) -> float:
    """Poll until something is true; returns the seconds it took, TimeoutError when it takes too long."""
    began = time.perf_counter()
    while not is_true():
        if time.perf_counter() - began > within_s:
            raise TimeoutError(f"{what} did not come about within {within_s:.0f} s")
        time.sleep(poll_s)
    return time.perf_counter() - began


@dataclass
class Process:
    """A child process; what it starts and prints stays its own."""

    name: str
    popen: subprocess.Popen[bytes]
    log_file: Path

    @property
    def pid(self) -> int:
        """Its number."""
        return self.popen.pid

    def freeze(self) -> None:
        """Hold it, so that a backlog can be laid before it."""
        self.popen.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.popen.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it cleanly, or at once if it does not; safe to repeat."""
        if self.popen.poll() is None:
            self.thaw()
            self.popen.terminate()
        try:
            self.popen.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()

    def alive(self) -> bool:
        """True; raises with what it said last if it has ended."""
        if self.popen.poll() is not None:
            tail = self.log_file.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self.name} ended with code {self.popen.returncode}:\n{tail}")
        return True


def tell(process: Process, line: str) -> None:
    """Write one line to the stdin of a process that was started to be talked to."""
    stdin = process.popen.stdin
    if stdin is None:
        raise RuntimeError(f"{process.name} was not started to be talked to")
    stdin.write(f"{line}\n".encode())
    stdin.flush()


@dataclass
class Rig:
    """One Redis and one Postgres with our schema and some registered models, for one measurement."""

    settings: Settings
    directory: Path
    redis: redis.Redis
    sql: Any
    one_thread: bool
    _undo: ExitStack = field(repr=False)
    _worker: Process | None = None

    def ask(self, statement: str, *parameters: object) -> list[Any]:
        """The rows of one statement."""
        with self.sql.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return list(cursor.fetchall()) if cursor.description else []

    def value(self, statement: str, *parameters: object) -> Any:
        """The only value of one statement."""
        return self.ask(statement, *parameters)[0][0]

    def finished(self) -> int:
        """How many jobs have ended."""
        return int(self.value("SELECT count(*) FROM jobs WHERE finished_at IS NOT NULL"))

    def forget_jobs(self) -> None:
        """Begin with an empty jobs table again."""
        self.ask("TRUNCATE jobs")

    def level(self) -> None:
        """The same start for everyone: empty tables, and no checkpoint that is still owed to another."""
        tables = self.ask("SELECT relname FROM pg_class WHERE relname = ANY(%s)", ["jobs", "results"])
        self.ask(f"TRUNCATE {', '.join(name for (name,) in tables)}")
        self.ask("CHECKPOINT")

    def client(self) -> Client:
        """A client, closed with the rig."""
        return self._undo.enter_context(Client(settings=self.settings))

    def the_worker(self) -> Process:
        """The Shunter worker of this rig, started when first asked for."""
        if self._worker is None:
            self._worker = self.start_worker()
        return self._worker

    def start(self, name: str, command: Sequence[str], *, talks: bool = False, **environment: str) -> Process:
        """Start a process that ends with the rig, or with us; one that `talks` has a stdin to write to."""
        log_file = self.directory / f"{name}.log"
        inherited = {**os.environ, "PYTHONPATH": str(ROOT)}
        inherited.pop("OMP_NUM_THREADS", None)
        if self.one_thread:
            inherited["OMP_NUM_THREADS"] = "1"
        with log_file.open("ab") as log:
            popen = subprocess.Popen(
                tethered(command, death_signal=signal.SIGKILL),
                cwd=self.directory,
                env={**inherited, **self.settings.environment(), **environment},
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process = Process(name, popen, log_file)
        self._undo.callback(process.stop)
        return process

    def start_worker(self, name: str = "worker", **environment: str) -> Process:
        """Start a Shunter worker on every model, and wait until it is registered."""
        command = [sys.executable, "-m", "shunter", "worker", "--name", name, "--log-level", "warning"]
        process = self.start(name, command, **environment)
        wait_for(lambda: self._registered(process), f"{name} is registered")
        return process

    def start_celery(
        self,
        name: str,
        python: Path,
        *options: str,
        pool: str = "solo",
        concurrency: int = 1,
        **environment: str,
    ) -> Process:
        """Start a stock Celery worker on the peer's app, and wait until it is ready."""
        ready = self.directory / f"{name}.ready"
        command = [
            str(python),
            "-m",
            "celery",
            "-A",
            "benchmarks.celery_peer",
            "worker",
            "-P",
            pool,
            "-c",
            str(concurrency),
        ]
        quiet = ["-l", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        process = self.start(name, [*command, *quiet, *options], BENCH_READY=str(ready), **environment)
        wait_for(lambda: process.alive() and ready.exists(), f"{name} is ready")
        return process

    def _registered(self, process: Process) -> bool:
        return process.alive() and bool(
            self.value("SELECT count(*) FROM workers WHERE pid = %s", process.pid)
        )


@contextmanager
def rig(models: Mapping[str, str | Path], toml: str = "", *, one_thread: bool = True) -> Iterator[Rig]:
    """Start Redis (no persistence) and Postgres (fsync on) in a temporary directory, with these models.

    A model is its source, or a directory to copy, such as one of MODELS. Its processes compute with
    `one_thread`, or with as many as libraries take by themselves.
    """
    with ExitStack() as undo:
        directory = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="shunter-bench-")))
        say("starting Redis and Postgres")
        redis_server = start_redis(directory / "redis", persistence=False)
        undo.callback(redis_server.stop)
        postgres = start_postgres(directory / "postgres")
        undo.callback(postgres.stop)
        for name, source in models.items():
            _write_model(directory / "models", name, source, toml)
        settings = Settings(
            database_url=postgres.url,
            redis_url=redis_server.url,
            object_store=(directory / "objects").as_uri(),
            models=str(directory / "models"),
        )
        migrate(postgres.url)
        database = Database(postgres.url)
        ModelRegistry(database).register(scan(directory / "models").versions)
        database.close()
        sql = psycopg2.connect(postgres.url)
        undo.callback(sql.close)
        sql.autocommit = True
        client = redis.Redis.from_url(redis_server.url)
        undo.callback(client.close)
        yield Rig(settings, directory, client, sql, one_thread, undo.enter_context(ExitStack()))


def _write_model(models: Path, name: str, source: str | Path, toml: str) -> None:
    if isinstance(source, Path):
        shutil.copytree(source, models / name, ignore=shutil.ignore_patterns("__pycache__"))
        return
    version = models / name / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(source)
    (version / "model.toml").write_text(toml)


def peer_venv(peer: str = "celery-batches") -> Path:
    """The Python of a peer's own environment, made when first asked for; torch comes from our own."""
    home, wanted = OUT / f"venv-{peer}", PEERS / f"{peer}.txt"
    python, made_from = home / "bin" / "python", home / "made-from.txt"
    if not made_from.exists() or made_from.read_text() != wanted.read_text():
        say(f"installing {', '.join(wanted.read_text().split())} into an environment of their own")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "-r", str(wanted)], check=True)
        # After its own packages: what it has of its own comes first.
        ours = next(path for path in sys.path if path.endswith("site-packages"))
        for packages in home.glob("lib/python*/site-packages"):
            (packages / "zz_ours.pth").write_text(ours + "\n")
        made_from.write_text(wanted.read_text())
    return python


@dataclass(frozen=True)
class RedisCount:
    """Redis' counters at one moment; `-` gives what happened in between, less the look itself."""

    at: float
    commands: int
    reads: int
    cpu_s: float
    calls: Mapping[str, int]

    def __sub__(self, before: RedisCount) -> RedisCount:
        calls = {name: n - before.calls.get(name, 0) for name, n in self.calls.items()}
        return RedisCount(
            self.at - before.at,
            self.commands - before.commands - 1,
            self.reads - before.reads - 1,
            self.cpu_s - before.cpu_s,
            {name: n for name, n in calls.items() if n and name != "info"},
        )


def redis_count(client: redis.Redis) -> RedisCount:
    """Look at Redis' counters: commands, reads from sockets (a pipeline is one), CPU, calls by name."""
    info: Any = client.info("everything")
    calls = {name[8:].lower(): stats["calls"] for name, stats in info.items() if name.startswith("cmdstat_")}
    cpu_s = info["used_cpu_user"] + info["used_cpu_sys"]
    reads = info["total_reads_processed"]
    return RedisCount(time.perf_counter(), info["total_commands_processed"], reads, cpu_s, calls)
