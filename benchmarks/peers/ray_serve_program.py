"""Ray Serve's asynchronous inference over Redis: `worker` serves, `send` sends."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve.schema import CeleryAdapterConfig, TaskProcessorConfig
from ray.serve.task_consumer import (
    instantiate_adapter_from_config,
    task_consumer,
    task_handler,
)

from benchmarks.peers.inference import infer, warm_up
from benchmarks.peers.ray_session import ray_session
from benchmarks.peers.sender import serve_sends

processing = TaskProcessorConfig(
    queue_name="peer",
    adapter_config=CeleryAdapterConfig(
        broker_url=os.environ["SHUNTER_REDIS_URL"],
        backend_url=os.environ["SHUNTER_REDIS_URL"],
    ),
)


def serve_tasks() -> None:
    """One replica, until told to end."""

    @serve.deployment(num_replicas=1, max_ongoing_requests=16)  # type: ignore[untyped-decorator]
    @task_consumer(task_processor_config=processing)  # type: ignore[untyped-decorator]
    class Inference:
        def __init__(self) -> None:
            warm_up()

        @task_handler(name="one")  # type: ignore[untyped-decorator]
        def one(self, row: Any) -> None:
            infer(row)

    with ray_session():
        serve.start(http_options={"location": "NoServer"})
        serve.run(Inference.bind(), name="peer", route_prefix=None)
        Path(os.environ["BENCH_READY"]).touch()
        threading.Event().wait()


def send() -> None:
    """Rows, one task each, through the adapter that its documentation shows."""
    adapter = instantiate_adapter_from_config(processing)
    serve_sends(lambda row: adapter.enqueue_task_sync(task_name="one", args=[row]))


if __name__ == "__main__":
    serve_tasks() if sys.argv[1] == "worker" else send()
