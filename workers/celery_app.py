"""The Celery app of the fleet: what Celery is told, and the one task it knows."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from celery import Celery, Task
from kombu import Queue

from shunter.storage.envelope import PRIORITY_STEPS, TASK_NAME
from shunter.workers import transport

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def create_app(redis_url: str, queues: Iterable[str] = ()) -> Celery:
    """An app for workers, Flower and `celery inspect`; nothing is connected yet."""
    transport.install()
    app = Celery("shunter", broker=redis_url)
    app.conf.update(
        task_ignore_result=True,
        result_backend=None,
        task_queues=[Queue(name) for name in queues] or None,
        task_create_missing_queues=True,
        # Events cost round trips: Flower switches them on, and they stay off while nobody listens.
        worker_send_task_events=False,
        worker_concurrency=1,
        worker_pool="solo",
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={"priority_steps": sorted(PRIORITY_STEPS)},
        accept_content=["json"],
        enable_utc=True,
    )
    app.register_task(RunEnvelope())
    return app


class RunEnvelope(Task):
    """The name under which envelopes travel; the hub takes them before Celery's own consumer could."""

    name = TASK_NAME
    ignore_result = True

    def run(self, *args: Any, **kwargs: Any) -> None:
        """Only reached when someone calls the task in their own process."""
        raise NotImplementedError("envelopes are run by a Shunter worker: submit with shunter.Client instead")


def flower_arguments(
    redis_url: str, *, port: int, address: str = "127.0.0.1"
) -> tuple[list[str], dict[str, str]]:
    """Command and environment that start stock Flower on this fleet."""
    command = ["-m", "celery", f"--broker={redis_url}", "flower", f"--address={address}", f"--port={port}"]
    environment = dict(os.environ)
    if address in LOOPBACK:
        # Nobody else can ask there; elsewhere Flower's own authentication must be set up.
        environment["FLOWER_UNAUTHENTICATED_API"] = "true"
    return command, environment
