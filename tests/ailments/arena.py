"""Services and workers as real processes that can be made unwell, and the commands that a user would run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from shunter.embedded import EmbeddedServer, start_postgres, start_redis
from shunter.migrations import migrate
from shunter.storage.database import Database
from shunter.storage.model_registry import ModelRegistry, scan
from shunter.storage.settings import Settings
from shunter.storage.worker_registry import WorkerRegistry
from tests.waiting import wait_until

COMMAND = [sys.executable, "-P", "-m", "shunter"]
LIVE_WITHIN_S = 60.0

MODELS = {
    "double": "class Model:\n    def forward(self, rows):\n        return [2 * row for row in rows]\n",
    "other": "class Model:\n    def forward(self, rows):\n        return rows\n",
    "wide": "class Model:\n    def forward(self, rows):\n        return ['x' * 400_000 for _ in rows]\n",
    "broken": "class Model:\n    def load(self, directory, device):\n"
    "        raise FileNotFoundError('no weights.pt')\n\n"
    "    def forward(self, rows):\n        return rows\n",
    "slow": "import time\n\nclass Model:\n    def forward(self, rows):\n"
    "        time.sleep(600)\n        return rows\n",
}


@dataclass
class Arena:
    """Where one ailment is tried: settings, and the processes that have them."""

    directory: Path
    settings: Settings
    redis: EmbeddedServer

    @property
    def models(self) -> Path:
        """The models directory."""
        return Path(self.settings.models)

    def prepare(self) -> None:
        """Models, all of them registered."""
        for name, source in MODELS.items():
            version = self.models / name / "1"
            version.mkdir(parents=True)
            (version / "model.py").write_text(source)
        with closing(Database(self.settings.database_url, pool_size=1)) as database:
            ModelRegistry(database).register(scan(self.models).versions)

    def shunter(self, *arguments: str, **changes: str) -> str:
        """What a command prints, on both its outputs."""
        ran = subprocess.run(
            [*COMMAND, *arguments],
            env=self._environment(changes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        return ran.stdout.strip()

    def submit(self, model: str) -> str:
        """The id of a new job, or what refused it."""
        return self.shunter("submit", model, "--row", "1")

    @contextmanager
    def worker(self, *arguments: str, **changes: str) -> Iterator[subprocess.Popen[bytes]]:
        """A worker that beats; killed at the end, whatever state it is in."""
        with (self.directory / "worker.log").open("wb") as log:
            process = subprocess.Popen(
                [*COMMAND, "worker", *arguments], env=self._environment(changes), stdout=log, stderr=log
            )
        try:
            with closing(Database(self.settings.database_url, pool_size=1)) as database:
                registry = WorkerRegistry(database)
                wait_until(
                    lambda: any(w.live and w.pid == process.pid for w in registry.present()), LIVE_WITHIN_S
                )
            yield process
        finally:
            process.kill()
            process.wait()

    def execute(self, statement: str) -> None:
        """A statement of a superuser, outside of transactions."""
        with closing(psycopg2.connect(self.settings.database_url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)

    def _environment(self, changes: Mapping[str, str]) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("SHUNTER_")}
        return {**ours, **self.settings.environment(), **changes}


@contextmanager
def arena(directory: Path, postgres: EmbeddedServer, number: int) -> Iterator[Arena]:
    """A fresh database, a fresh Redis and a fresh directory."""
    directory.mkdir()
    name = f"ailment_{number}"
    with closing(psycopg2.connect(postgres.url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
    url = f"{postgres.url.rpartition('/')[0]}/{name}"
    migrate(url)
    with start_redis(directory / "redis") as redis:
        made = Arena(
            directory,
            Settings(
                database_url=url,
                redis_url=redis.url,
                object_store=(directory / "objects").as_uri(),
                models=str(directory / "models"),
            ),
            redis,
        )
        made.prepare()
        yield made


def open_postgres(directory: Path) -> EmbeddedServer:
    """One Postgres for all of them."""
    return start_postgres(directory)
