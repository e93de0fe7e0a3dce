"""What users write today: tasks for stock Celery and celery-batches. Runs without Shunter installed."""

from __future__ import annotations

import base64
import io
import json
import os
import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psycopg2
from celery import Celery
from celery.signals import worker_ready

from benchmarks.models import load_model, sample_rows

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

_own = threading.local()
"""A connection of each thread, for pools of threads."""


def _cursor() -> Any:
    if not hasattr(_own, "cursor"):
        connection = psycopg2.connect(os.environ["SHUNTER_DATABASE_URL"])
        connection.autocommit = True
        _own.cursor = connection.cursor()
    return _own.cursor


def _write(ids: list[str], outputs: list[Any]) -> None:
    _cursor().execute(WRITE, (ids, [json.dumps(output) for output in outputs]))


def _copy(ids: list[str], outputs: list[Any]) -> None:
    lines = "".join(f"{id}\t{json.dumps(output)}\n" for id, output in zip(ids, outputs, strict=True))
    _cursor().copy_expert("COPY results (id, result) FROM STDIN", io.StringIO(lines))


def _infer(rows: Any) -> list[Any]:
    """The outputs of the model that Shunter serves too; BENCH_MODEL names it."""
    import torch

    with torch.inference_mode():
        outputs: list[Any] = _model().forward(_model().collate(rows, pad_to=None)).tolist()
    return outputs


@cache
def _model() -> Any:
    return load_model(os.environ["BENCH_MODEL"])


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


@app.task(name="one", bind=True)  # type: ignore[untyped-decorator]
def one(self: Any, row: Any) -> None:
    """One row through the model, written to a row of Postgres."""
    _write([self.request.id], _infer([row]))


@app.task(name="packed")  # type: ignore[untyped-decorator]
def packed(ids: list[str], floats: str) -> None:
    """As many rows as its sender has packed by hand: base64 of float32, written by one COPY."""
    rows = np.frombuffer(base64.b64decode(floats), np.float32).reshape(len(ids), -1)
    _copy(ids, _infer(rows))


try:
    from celery_batches import Batches  # type: ignore[import-not-found]
except ImportError:
    pass
else:

    @app.task(name="mlp_batch", base=Batches, flush_every=256, flush_interval=0.1)  # type: ignore[untyped-decorator]
    def mlp_batch(requests: Any) -> None:
        """Up to 256 messages through the model at once, written by one COPY."""
        _copy([request.id for request in requests], _infer([request.args[0] for request in requests]))


@worker_ready.connect  # type: ignore[untyped-decorator]
def _ready(**_: Any) -> None:
    _cursor().execute(RESULTS)
    if os.environ.get("BENCH_MODEL"):
        _infer(sample_rows(os.environ["BENCH_MODEL"], 1))
    Path(os.environ["BENCH_READY"]).touch()
