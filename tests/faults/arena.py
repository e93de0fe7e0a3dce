"""A place to break things in: services and workers of its own, and a ledger of every move of a job."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast
from uuid import UUID

import psutil
import redis

from shunter import Client
from shunter.embedded import EmbeddedServer, start_postgres, start_redis
from shunter.embedded.server import log_tail, tethered
from shunter.migrations import migrate
from shunter.producers.publisher import Publisher
from shunter.storage import failpoints
from shunter.storage.database import Database
from shunter.storage.envelope import pack, queue_name
from shunter.storage.ids import new_ids
from shunter.storage.job import TERMINAL_STATES, JobState, NewJob
from shunter.storage.job_repository import JobRepository
from shunter.storage.payload import decode_rows, encode_rows
from shunter.storage.results import Blob
from shunter.storage.settings import Settings
from shunter.storage.worker_registry import WorkerRegistry
from tests.acceptance.fleet import write_model
from tests.waiting import wait_until

MODEL = "double"

SOURCE = """
import time

class Model:
    def load(self, directory, device, *, row_s):
        self.row_s = row_s

    def forward(self, rows):
        time.sleep(self.row_s * len(rows))
        return [row * 2 for row in rows]
"""

LEDGER = """
CREATE TABLE moves (id uuid, epoch int, source job_state, target job_state, at timestamptz);
CREATE FUNCTION note_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO moves VALUES (NEW.id, NEW.epoch, OLD.state, NEW.state, clock_timestamp());
    RETURN NULL;
END $$;
CREATE TRIGGER note_move AFTER UPDATE OF state ON jobs FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION note_move();
"""

ENDINGS = f"""
SELECT id, count(*) FILTER (WHERE target = '{JobState.SUCCEEDED}'),
    count(*) FILTER (WHERE source NOT IN ('{JobState.QUEUED}', '{JobState.RUNNING}'))
FROM moves WHERE id = ANY(%s::uuid[]) GROUP BY id
"""

NOT_RUNNING = f"""
SELECT id FROM jobs WHERE state = '{JobState.QUEUED}' OR (state = '{JobState.RUNNING}'
    AND worker NOT IN (SELECT incarnation FROM workers WHERE ended_at IS NULL AND pid = ANY(%s)))
"""

PATIENCE_S = 60.0
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of some jobs."""

    jobs: int
    unfinished: int
    wrong: int
    doubled: int
    """Settled more than once, or moved after the end."""

    @property
    def sound(self) -> bool:
        """Whether each succeeded exactly once, with the right outputs."""
        return not (self.unfinished or self.wrong or self.doubled)


@dataclass(eq=False)
class Hub:
    """A worker process of the arena."""

    process: subprocess.Popen[bytes]
    incarnation: UUID

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def dead(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()


@dataclass
class Arena:
    """Postgres, Redis and workers, all of them the test's to kill; use it as `with arena(directory)`."""

    directory: Path
    postgres: EmbeddedServer
    redis: EmbeddedServer
    settings: Settings
    persistence: bool
    sent: dict[UUID, int] = field(default_factory=dict)
    """Every job that was submitted, and the number that is its row."""
    hubs: list[Hub] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.database = Database(self.settings.database_url)
        self.repository = JobRepository(self.database)
        self.registry = WorkerRegistry(self.database)
        self.publisher = Publisher(self.settings.redis_url)
        self.client = Client(settings=self.settings)

    def close(self) -> None:
        """End every worker and every connection."""
        for hub in self.hubs:
            hub.kill()
        self.client.close()
        self.publisher.close()
        self.database.close()
        self.redis.stop()
        self.postgres.stop()

    def start_hub(
        self,
        armed: str = "",
        *,
        database_url: str | None = None,
        redis_url: str | None = None,
        environment: Mapping[str, str] = NOTHING,
    ) -> Hub:
        """A worker that has registered, with failpoints and other ways to Postgres and Redis if given."""
        settings = replace(
            self.settings,
            database_url=database_url or self.settings.database_url,
            redis_url=redis_url or self.settings.redis_url,
        )
        process = self.spawn(
            ["-m", "shunter", "worker", "--log-level", "warning"], armed, settings, environment=environment
        )
        incarnation = wait_until(lambda: self._first_incarnation(process), PATIENCE_S)
        assert incarnation is not None
        hub = Hub(process, incarnation)
        self.hubs.append(hub)
        return hub

    def spawn(
        self,
        arguments: Iterable[str],
        armed: str = "",
        settings: Settings | None = None,
        *,
        environment: Mapping[str, str] = NOTHING,
    ) -> subprocess.Popen[bytes]:
        """A Python process in the fleet's environment, which dies with this one."""
        settings = settings or self.settings
        failing = {failpoints.VARIABLE: armed, failpoints.CONSENT: "yes"}
        whole = {**os.environ, **settings.environment(), **failing, **environment}
        command = tethered([sys.executable, "-P", *arguments], death_signal=signal.SIGKILL)
        with (self.directory / "processes.log").open("ab") as log:
            return subprocess.Popen(command, env=whole, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def incarnation_of(self, pid: int) -> UUID | None:
        """The worker that this process is now."""
        return next((worker.incarnation for worker in self.registry.present() if worker.pid == pid), None)

    def _first_incarnation(self, process: subprocess.Popen[bytes]) -> UUID | None:
        assert process.poll() is None, log_tail(self.directory / "processes.log")
        return self.incarnation_of(process.pid)

    def submit(self, count: int, *, publish: bool = True) -> list[UUID]:
        """So many single-row jobs, committed at once and then published one by one, or not."""
        numbers = {id: len(self.sent) + index for index, id in enumerate(new_ids(count))}
        jobs = [
            NewJob(id=id, model=MODEL, version=1, rows=1, input=encode_rows([number]))
            for id, number in numbers.items()
        ]
        enqueued_at = self.repository.insert(jobs)
        self.sent.update(numbers)
        if publish:
            self.publisher.publish(
                envelope for job in jobs for envelope in pack([job], enqueued_at.timestamp())
            ).close()
        return list(numbers)

    def wait(self, ids: Collection[UUID] | None = None, timeout_s: float = PATIENCE_S) -> None:
        """Until these jobs have ended, or all that were sent; others, such as a scoring's, do not count."""
        wanted = list(self.sent if ids is None else ids)
        wait_until(lambda: self.done(wanted) == len(wanted), timeout_s)

    def done(self, ids: Collection[UUID] | None = None) -> int:
        """How many of these jobs, or of all, have ended."""
        ended = tuple(state.value for state in TERMINAL_STATES)
        wanted = None if ids is None else list(ids)
        return int(
            self.ask(
                "SELECT count(*) FROM jobs WHERE state::text IN %s AND (%s IS NULL OR id = ANY(%s::uuid[]))",
                (ended, wanted and True, wanted),
            )[0][0]
        )

    def tally(self, ids: Collection[UUID] | None = None) -> Tally:
        """What became of these jobs, or of all."""
        wanted = list(self.sent if ids is None else ids)
        results = self.repository.results(wanted)
        endings = {id: (succeeded, zombie) for id, succeeded, zombie in self.ask(ENDINGS, (wanted,))}
        succeeded = {id for id in wanted if results[id].state is JobState.SUCCEEDED}
        wrong = [id for id in succeeded if _outputs(results[id].output) != [2 * self.sent[id]]]
        doubled = [id for id in succeeded if endings[id] != (1, 0)]
        return Tally(len(wanted), len(wanted) - len(succeeded), len(wrong), len(doubled))

    def epochs(self) -> set[int]:
        """The epochs that jobs have reached."""
        return {row[0] for row in self.ask("SELECT DISTINCT epoch FROM jobs")}

    def not_running(self) -> list[UUID]:
        """Jobs that have not ended, and that no living worker of the arena has in hand."""
        living = [hub.pid for hub in self.hubs if not hub.dead]
        return [id for (id,) in self.ask(NOT_RUNNING, (living,))]

    def held_by(self, hub: Hub) -> list[UUID]:
        """Jobs that a worker has in hand."""
        return [claim.id for claim in self.repository.held(hub.incarnation)]

    def ask(self, statement: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """The rows that a statement returns."""
        with self.database.transaction() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def flush_redis(self) -> None:
        """FLUSHALL."""
        with redis.Redis.from_url(self.redis.url) as client:
            client.flushall()

    def envelopes(self) -> int:
        """How many envelopes lie in Redis, not yet taken."""
        with redis.Redis.from_url(self.redis.url) as client:
            return int(cast(int, client.llen(queue_name(MODEL))))

    def lose_redis(self, replacement: Path | None = None) -> None:
        """Kill Redis, and start it again with these data in place of its own, or with none."""
        os.kill(self.redis.pid, signal.SIGKILL)
        self.redis.process.wait()
        self.redis.stop()
        data = self.redis.launch.directory
        for old in data.glob("appendonlydir"):
            shutil.rmtree(old)
        if replacement is not None:
            shutil.copytree(replacement, data / "appendonlydir")
        self.redis = start_redis(data, port=self.redis.port, persistence=self.persistence)

    def restart_redis(self) -> None:
        """Kill Redis, and start it again with what it has kept."""
        self.redis.process.kill()
        self.redis.process.wait()
        self.redis.stop()
        self.redis = start_redis(
            self.redis.launch.directory, port=self.redis.port, persistence=self.persistence
        )

    def restart_postgres(self) -> None:
        """Kill Postgres, all its processes at once, and start it again: it replays its log."""
        server = psutil.Process(self.postgres.pid)
        for process in (server, *server.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.postgres.process.wait()
        self.postgres.stop()
        self.postgres = start_postgres(self.directory / "postgres", port=self.postgres.port)
        # None of our connections has survived.
        self.database.close()

    def snapshot_redis(self) -> Path:
        """A copy of Redis' append-only files as they are now."""
        copy = self.directory / f"snapshot-{time.monotonic_ns()}"
        shutil.copytree(self.redis.launch.directory / "appendonlydir", copy)
        return copy

    @contextmanager
    def postgres_paused(self) -> Iterator[None]:
        """Postgres stands still, with all its connections open."""
        server = psutil.Process(self.postgres.pid)
        stopped = [server, *server.children(recursive=True)]
        for process in stopped:
            process.suspend()
        try:
            yield
        finally:
            for process in stopped:
                process.resume()


@contextmanager
def arena(
    directory: Path,
    *,
    row_s: float = 0.0,
    max_rows: int = 64,
    max_attempts: int = 3,
    persistence: bool = True,
    source: str = SOURCE,
    object_store: str | None = None,
    through: Callable[[Path, str], AbstractContextManager[str]] | None = None,
) -> Iterator[Arena]:
    """An arena whose model takes `row_s` seconds for a row, and is `source`.

    Everybody reaches Postgres `through` what this makes of a directory and a database URL, if given.
    """
    toml = (
        f"[batching]\nmax_rows = {max_rows}\n[run]\nmax_attempts = {max_attempts}\n"
        f"[params]\nrow_s = {row_s}\n"
    )
    directory.mkdir(exist_ok=True)
    models = directory / "models"
    write_model(models, MODEL, source, toml=toml)
    with ExitStack() as undo:
        postgres = undo.enter_context(start_postgres(directory / "postgres"))
        url = postgres.url
        if through is not None:
            url = undo.enter_context(through(directory / "front", url))
        settings = Settings(
            database_url=url,
            object_store=object_store or (directory / "objects").as_uri(),
            models=str(models),
        )
        migrate(settings.database_url)
        server = start_redis(directory / "redis", persistence=persistence)
        undo.callback(server.stop)
        place = Arena(directory, postgres, server, replace(settings, redis_url=server.url), persistence)
        undo.callback(place.close)
        place.ask(LEDGER)
        yield place


def pass_time(seconds: float) -> None:
    """For faults that consist of time passing."""
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > until, seconds + 10)


def chosen(seed: int | None = None) -> random.Random:
    """A source of choices whose seed is printed, so that a failure can be played again."""
    number = int(os.environ.get("SEED") or 0) or seed or random.SystemRandom().randrange(1, 10**6)
    print(f"seed {number}: SEED={number} plays it again")
    return random.Random(number)


def size(small: int, full: int) -> int:
    """A test's size: small in `make test`, full in `make chaos`."""
    return full if os.environ.get("FAULTS") == "full" else small


def _outputs(blob: Blob | None) -> Sequence[object]:
    assert blob is not None
    assert blob.inline is not None
    return decode_rows(blob.inline)
