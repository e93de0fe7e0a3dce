"""The Postgres, Redis and object store of a local fleet: embedded, unless their URLs are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from shunter.data_directory import Record
from shunter.embedded import EmbeddedServer, EmbeddedServiceError, start_postgres, start_redis
from shunter.embedded.ports import is_free
from shunter.storage.errors import Unavailable
from shunter.storage.settings import Settings

Start = Callable[[Path, int | None], EmbeddedServer]

_STARTS: Mapping[str, Start] = {
    "redis_url": lambda directory, port: start_redis(directory, port=port),
    "database_url": lambda directory, port: start_postgres(directory, port=port),
}
_DIRECTORIES = {"redis_url": "redis", "database_url": "postgres", "object_store": "objects"}


class LocalServices:
    """Used from the main thread only: what it starts dies with the thread that starts it."""

    def __init__(self, data: Path, external: Settings, before: Record) -> None:
        self._data = data
        self._before = before
        # A shell that has evaluated `shunter env` holds the URLs of the services that ran here before.
        stale = {
            name: ""
            for name in before.embedded
            if getattr(external, name) == before.environment.get(f"SHUNTER_{name.upper()}")
        }
        self.settings = replace(external, **stale)
        self.embedded = tuple(name for name in _DIRECTORIES if not getattr(self.settings, name))
        self._servers: dict[str, EmbeddedServer] = {}

    @property
    def ports(self) -> dict[str, int]:
        """Where the embedded servers listen."""
        return {name: server.port for name, server in self._servers.items()}

    @property
    def pids(self) -> list[int]:
        """The processes of the embedded servers."""
        return [server.pid for server in self._servers.values()]

    def start(self) -> Settings:
        """Start what is not given, and return the settings with every URL; all or nothing."""
        with ExitStack() as undo:
            undo.callback(self.stop)
            for name in self.embedded:
                url = self._start(name) if name in _STARTS else (self._data / _DIRECTORIES[name]).as_uri()
                self.settings = replace(self.settings, **{name: url})
            undo.pop_all()
        return self.settings

    def mend(self) -> list[str]:
        """Start servers that have died again, where they were; returns their names."""
        dead = [name for name, server in self._servers.items() if server.exit_code() is not None]
        for name in dead:
            port = self._servers[name].port
            self._servers[name].stop()
            self._servers[name] = _STARTS[name](self._data / _DIRECTORIES[name], port)
        return [_DIRECTORIES[name] for name in dead]

    def stop(self) -> None:
        """Stop the servers cleanly, Postgres first."""
        while self._servers:
            _, server = self._servers.popitem()
            server.stop()

    def _start(self, name: str) -> str:
        port = self._before.ports.get(name)
        directory = self._data / _DIRECTORIES[name]
        try:
            server = _STARTS[name](directory, port if port and is_free(port) else None)
        except EmbeddedServiceError as error:
            raise Unavailable(str(error)) from error
        self._servers[name] = server
        return server.url
