"""Running the app under uvicorn."""

from __future__ import annotations

from types import FrameType

import uvicorn
from fastapi import FastAPI

from shunter.producers.api.app import create_app
from shunter.storage import failpoints
from shunter.storage.settings import Settings

GRACE_S = 5
"""How long requests under way may take once the server is to stop."""


class Server(uvicorn.Server):
    """Serves one app; requests that wait for a job are answered at once when it is to stop."""

    def __init__(self, app: FastAPI, *, host: str = "127.0.0.1", port: int) -> None:
        self._polls = app.state.context.polls
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=GRACE_S,
            )
        )

    def stop(self) -> None:
        """Stop soon; safe from any thread."""
        self._polls.release()
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called at each signal to stop."""
        self._polls.release()
        super().handle_exit(sig, frame)


def serve(settings: Settings, *, host: str = "127.0.0.1", port: int) -> None:
    """Serve the API until SIGINT or SIGTERM; it says nothing unless something is wrong."""
    failpoints.arm()
    Server(create_app(settings), host=host, port=port).run()
