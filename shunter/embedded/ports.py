"""Loopback ports for servers that cannot be handed an open socket."""

import socket
from collections.abc import Callable
from typing import TypeVar

from shunter.embedded.errors import EmbeddedServiceError

HOST = "127.0.0.1"
PORT_ATTEMPTS = 5  # between finding a free port and using it, another program may take it

Started = TypeVar("Started")


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def start_on_port(port: int | None, start: Callable[[int], Started]) -> Started:
    """Start on the wanted port, or on any free one."""
    if port is not None:
        if not is_free(port):
            raise EmbeddedServiceError(
                f"port {port} is taken: stop what listens there, or choose another port"
            )
        return start(port)
    for _ in range(PORT_ATTEMPTS - 1):
        candidate = free_port()
        try:
            return start(candidate)
        except EmbeddedServiceError:
            if is_free(candidate):
                raise
    return start(free_port())
