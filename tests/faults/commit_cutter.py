"""A proxy before Postgres that forwards what commits, keeps its reply, and cuts the connection."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit, urlunsplit

HOST = "127.0.0.1"
BEGIN = b"Q\x00\x00\x00\x0aBEGIN\x00"
COPY_IN = b"FROM STDIN"
COPY_DONE = b"c\x00\x00\x00\x04"
COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"


class CommitCutter:
    """Cuts a transaction whose statements contain a marker each time it is told to; use it as `with`."""

    def __init__(self, database_url: str) -> None:
        parts = urlsplit(database_url)
        self._server = (parts.hostname or HOST, parts.port or 5432)
        self._marker: bytes | None = None
        self._lock = threading.Lock()
        self._listener = socket.create_server((HOST, 0))
        port = self._listener.getsockname()[1]
        netloc = f"{parts.username}@{HOST}:{port}"
        self.url = urlunsplit(parts._replace(netloc=netloc, query="sslmode=disable"))
        self._links: list[_Link] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        _wake(self._listener)
        self._accepting.join()
        self._listener.close()
        for link in self._links:
            link.end()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._links.append(_Link(self, client, socket.create_connection(self._server)))

    @property
    def armed(self) -> bool:
        """Whether what it was told to cut has not come yet."""
        return self._marker is not None

    def cut_one(self, marker: bytes) -> None:
        """Cut the next transaction that contains this."""
        self._marker = marker

    def cuts(self, statements: bytes) -> bool:
        """Whether the commit of these statements is the one to cut."""
        with self._lock:
            if self._marker is None or self._marker not in statements:
                return False
            self._marker = None
            return True


class _Link:
    """One connection through the proxy: a thread for each direction."""

    def __init__(self, cutter: CommitCutter, client: socket.socket, server: socket.socket) -> None:
        self._cutter = cutter
        self._client = client
        self._server = server
        self._cut = False
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._ask, self._answer)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Close both sides; no thread is left."""
        _wake(self._client)
        _wake(self._server)
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        statements: bytes | None = None
        copying: bytes | None = None
        with suppress(OSError):
            while data := self._client.recv(65536):
                # psycopg2 sends BEGIN and COMMIT alone; a statement outside of them commits by itself.
                if data == BEGIN:
                    statements = b""
                elif statements is None and COPY_IN in data:
                    copying = data
                elif copying is not None:
                    # A COPY outside of a transaction commits when its rows have come.
                    if data.endswith(COPY_DONE):
                        self._cut = self._cutter.cuts(copying)
                        copying = None
                elif statements is None or data == COMMIT:
                    self._cut = self._cutter.cuts(statements or data)
                    statements = None
                else:
                    statements += data
                self._server.sendall(data)
        _wake(self._server)
        self._client.close()

    def _answer(self) -> None:
        with suppress(OSError):
            # The reply to a COMMIT comes after the commit.
            while (data := self._server.recv(65536)) and not self._cut:
                self._client.sendall(data)
        _wake(self._client)
        self._server.close()


def _wake(side: socket.socket) -> None:
    """End the wait of the thread that reads from this socket, and have it close it."""
    with suppress(OSError):
        side.shutdown(socket.SHUT_RDWR)
