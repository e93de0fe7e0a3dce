"""What users write today: tasks for stock Celery and celery-batches. Runs without Shunter installed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import psycopg2
from celery import Celery
from celery.signals import worker_ready

app = Celery("peer", broker=os.environ.get("SHUNTER_REDIS_URL", "redis://127.0.0.1:6379/0"))
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    task_default_queue="stock",
    worker_prefetch_multiplier=int(os.environ.get("BENCH_PREFETCH", "4")),
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 3600},
)

RESULTS = """
CREATE TABLE IF NOT EXISTS results (
    id uuid PRIMARY KEY, result jsonb, started_at timestamptz, at timestamptz DEFAULT now()
)
"""
WRITE = "INSERT INTO results (id, result) SELECT * FROM unnest(%s::uuid[], %s::jsonb[])"

_state: dict[str, Any] = {}


def _cursor() -> Any:
    if "cursor" not in _state:
        connection = psycopg2.connect(os.environ["SHUNTER_DATABASE_URL"])
        connection.autocommit = True
        _state["cursor"] = connection.cursor()
    return _state["cursor"]


def _write(ids: list[str], outputs: list[Any]) -> None:
    _cursor().execute(WRITE, (ids, [json.dumps(output) for output in outputs]))


def _net() -> Any:
    """The MLP of rig.MLP, for the peers."""
    if "net" not in _state:
        import torch

        torch.set_num_threads(1)
        torch.manual_seed(0)
        layers = torch.nn.Linear(128, 256), torch.nn.ReLU(), torch.nn.Linear(256, 8)
        _state["net"] = torch.nn.Sequential(*layers).eval()
    return _state["net"]


@app.task(name="trivial")  # type: ignore[untyped-decorator]
def trivial(row: Any = None) -> None:
    """Nothing, and nobody hears of it."""


@app.task(name="stored", bind=True)  # type: ignore[untyped-decorator]
def stored(self: Any, row: Any) -> None:
    """Nothing, written to a row of Postgres."""
    _write([self.request.id], [row])


@app.task(name="tracked", bind=True)  # type: ignore[untyped-decorator]
def tracked(self: Any, row: Any) -> None:
    """Nothing, for a row that its sender has inserted: marked as started, then given its result."""
    _cursor().execute("UPDATE results SET started_at = now() WHERE id = %s::uuid", (self.request.id,))
    _cursor().execute(
        "UPDATE results SET result = %s::jsonb, at = now() WHERE id = %s::uuid",
        (json.dumps(row), self.request.id),
    )


try:
    from celery_batches import Batches  # type: ignore[import-not-found]
except ImportError:
    pass
else:

    @app.task(name="mlp_batch", base=Batches, flush_every=256, flush_interval=0.1)  # type: ignore[untyped-decorator]
    def mlp_batch(requests: Any) -> None:
        """Up to 256 messages through the model at once, written by one statement."""
        import torch

        with torch.inference_mode():
            outputs = _net()(torch.tensor([r.args[0] for r in requests], dtype=torch.float32)).tolist()
        _write([request.id for request in requests], outputs)


@worker_ready.connect  # type: ignore[untyped-decorator]
def _ready(**_: Any) -> None:
    _cursor().execute(RESULTS)
    if os.environ.get("BENCH_MODEL"):
        _net()
    Path(os.environ["BENCH_READY"]).touch()
