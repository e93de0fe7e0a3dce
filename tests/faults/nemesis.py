"""Strikes anything at random, one thing at a time, and starts again what it killed."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

import httpx
import psutil

from shunter.embedded.ports import HOST, free_port
from tests.faults.arena import Arena, Hub, pass_time
from tests.waiting import wait_until

HUBS = 2
STOPPED_S = 3.0

RUNNING = "SELECT id FROM jobs WHERE state = 'running' AND (%s IS NULL OR worker = %s) LIMIT 500"


@dataclass(frozen=True, slots=True)
class Struck:
    """One strike: what, when (Unix time), and the jobs that were running there."""

    what: str
    at: float
    jobs: tuple[UUID, ...]


@dataclass
class Nemesis:
    """Strikes one thing at a time, and starts again what it killed."""

    place: Arena
    rng: random.Random
    only: Sequence[str] = ()
    """What may happen; anything if empty."""
    workers: int = HUBS
    port: int = field(default_factory=free_port)
    struck: list[Struck] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hubs = [self.place.start_hub() for _ in range(self.workers)]
        self.start_api()

    @property
    def url(self) -> str:
        """Of the API."""
        return f"http://{HOST}:{self.port}"

    def start_api(self) -> None:
        """Start the API, and wait until it answers."""
        self.api = self.place.spawn(["-m", "shunter", "api", "--port", str(self.port)])
        wait_until(self._api_answers, 60)

    def stop_api(self) -> None:
        """kill -9."""
        self.api.kill()
        self.api.wait()

    def strike(self) -> None:
        """Strike something, by chance."""
        names = sorted(self.only or STRIKES)
        what = self.rng.choices(names, [STRIKES[name][0] for name in names])[0]
        hub = self.rng.choice(self.hubs)
        worker = hub.incarnation if "hub" in what or "engine" in what else None
        jobs = self.place.ask(RUNNING, (worker, worker))
        self.struck.append(Struck(what, time.time(), tuple(id for (id,) in jobs)))
        STRIKES[what][1](self, hub)

    def kill_hub(self, hub: Hub) -> None:
        """kill -9; another takes its place."""
        hub.kill()
        self.hubs[self.hubs.index(hub)] = self.place.start_hub()

    def stop_hub(self, hub: Hub) -> None:
        """SIGTERM: it drains; another takes its place."""
        hub.signal(signal.SIGTERM)
        self.hubs[self.hubs.index(hub)] = self.place.start_hub()

    def freeze_hub(self, hub: Hub) -> None:
        """It stands still for a while."""
        hub.signal(signal.SIGSTOP)
        pass_time(STOPPED_S)
        hub.signal(signal.SIGCONT)

    def kill_engine(self, hub: Hub) -> None:
        """kill -9 the engines of a hub."""
        for child in psutil.Process(hub.pid).children():
            with suppress(psutil.NoSuchProcess):
                child.kill()

    def kill_api(self, _: Hub) -> None:
        """kill -9; it is started again."""
        self.stop_api()
        self.start_api()

    def kill_redis(self, _: Hub) -> None:
        """kill -9; it comes back with what it has kept."""
        self.place.restart_redis()

    def flush_redis(self, _: Hub) -> None:
        """FLUSHALL."""
        self.place.flush_redis()

    def kill_postgres(self, _: Hub) -> None:
        """kill -9 of all its processes; it comes back by its log."""
        self.place.restart_postgres()

    def _api_answers(self) -> bool:
        assert self.api.poll() is None, "the API ended"
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/healthz", timeout=2).is_success
        return False


STRIKES: Mapping[str, tuple[int, Callable[[Nemesis, Hub], None]]] = {
    "kill -9 hub": (5, Nemesis.kill_hub),
    "SIGTERM hub": (1, Nemesis.stop_hub),
    "SIGSTOP hub": (1, Nemesis.freeze_hub),
    "kill -9 engine": (3, Nemesis.kill_engine),
    "kill -9 API": (2, Nemesis.kill_api),
    "kill -9 Redis": (3, Nemesis.kill_redis),
    "FLUSHALL": (1, Nemesis.flush_redis),
    "kill -9 Postgres": (2, Nemesis.kill_postgres),
}
"""What may happen, how often in proportion, and how."""
