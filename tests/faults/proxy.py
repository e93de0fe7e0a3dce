"""A TCP proxy whose network can be cut, slow, or silent with its connections open."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Self

HOST = "127.0.0.1"
CHUNK = 65536


class Proxy:
    """Passes bytes on to a port of this machine; use it as `with`."""

    def __init__(self, port: int) -> None:
        self._target = (HOST, port)
        self._open = threading.Event()
        self._open.set()
        self._refusing = False
        self.delay_s = 0.0
        """Held back so long, each time bytes pass."""
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._refusing = True
        _shut(self._listener)
        self.cut()
        self._open.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def cut(self) -> None:
        """End every connection; new ones are taken."""
        with self._lock:
            for side in self._sockets:
                _shut(side)
            self._sockets.clear()

    def silence(self) -> None:
        """Nothing passes any more, and nobody is told: connections stay half open."""
        self._open.clear()

    def heal(self) -> None:
        """What was held back passes now."""
        self._open.set()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while not self._refusing:
                client, _ = self._listener.accept()
                with suppress(OSError):
                    server = socket.create_connection(self._target)
                    with self._lock:
                        self._sockets += [client, server]
                    self._start(self._pass_on, client, server)
                    self._start(self._pass_on, server, client)
                    continue
                client.close()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                self._open.wait()
                time.sleep(self.delay_s)
                target.sendall(data)
        _shut(target)
        source.close()


def _shut(side: socket.socket) -> None:
    with suppress(OSError):
        side.shutdown(socket.SHUT_RDWR)
