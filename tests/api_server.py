"""The HTTP API on a free port, in a thread."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

from fastapi import FastAPI

from shunter import Client
from shunter.embedded.ports import HOST, free_port
from shunter.producers.api import create_app
from shunter.producers.api.server import Server
from shunter.storage.settings import Settings
from tests.waiting import wait_until


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The URL of an app that is being served."""
    server = Server(app, host=HOST, port=free_port())
    thread = Thread(target=server.run, name="api-server")
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield f"http://{HOST}:{server.config.port}"
    finally:
        server.stop()
        thread.join()


@contextmanager
def client_of(way: str, settings: Settings) -> Iterator[Client]:
    """A client "direct" to the services of these settings, or one through "http"."""
    if way == "direct":
        with Client(settings=settings) as client:
            yield client
        return
    with serving(create_app(settings)) as url, Client(url) as client:
        yield client
