"""The routes of models, workers, health and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from operator import attrgetter
from typing import Annotated, Any

from fastapi import APIRouter, Path
from starlette.responses import Response

from shunter.producers.api.answers import answer, problems
from shunter.producers.api.context import Context, WithContext
from shunter.producers.api.metrics import MEDIA_TYPE
from shunter.producers.schemas import (
    BatchesDocument,
    HealthDocument,
    ModelDocument,
    ModelsDocument,
    ReadyDocument,
    WorkersDocument,
)
from shunter.storage.errors import NotFound, QueueUnavailable
from shunter.storage.model_registry import RegisteredModel
from shunter.storage.worker_registry import Worker, batches_by_version

fleet = APIRouter(prefix="/v1", tags=["fleet"])
health = APIRouter(tags=["health"])


@fleet.get("/models", response_model=ModelsDocument, responses=problems(503))
def models(context: WithContext) -> Response:
    """Every registered model with its versions."""
    registered = context.backend.registry.list()
    by_name = groupby(registered, key=attrgetter("name"))
    return answer({"models": [_model(name, list(versions)) for name, versions in by_name]})


@fleet.get("/models/{name}", response_model=ModelDocument, responses=problems(404, 422, 503))
def model(context: WithContext, name: Annotated[str, Path()]) -> Response:
    """One registered model with its versions."""
    return answer(_model(name, _versions(context, name)))


@fleet.get("/models/{name}/batches", response_model=BatchesDocument, responses=problems(404, 422, 503))
def batches(context: WithContext, name: Annotated[str, Path()]) -> Response:
    """How the batches of a model's versions were, and why they were closed, over all live workers."""
    _versions(context, name)
    told = batches_by_version(context.backend.workers.present(), model=name)
    versions = [{"version": version, **report} for (_, version), report in told.items()]
    return answer({"model": name, "versions": versions})


@fleet.get("/workers", response_model=WorkersDocument, responses=problems(503))
def workers(context: WithContext) -> Response:
    """Every worker that has not ended, with what it serves."""
    return answer({"workers": [_worker(worker) for worker in context.backend.workers.present()]})


@health.get("/healthz", response_model=HealthDocument)
async def healthz() -> Response:
    """Whether this process answers; asks no other service."""
    return answer({"status": "ok"})


@health.get("/readyz", response_model=ReadyDocument, responses=problems(503))
def readyz(context: WithContext) -> Response:
    """Whether jobs can be accepted: Postgres answers and is migrated. Redis is reported."""
    context.backend.check_database()
    try:
        context.backend.check_queue()
    except QueueUnavailable as error:
        return answer({"status": "ok", "postgres": "ok", "redis": error.message})
    return answer({"status": "ok", "postgres": "ok", "redis": "ok"})


@health.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(context: WithContext) -> Response:
    """This process's counters, and how many jobs are queued, for Prometheus."""
    return Response(context.metrics.exposition(), media_type=MEDIA_TYPE)


def _versions(context: Context, name: str) -> list[RegisteredModel]:
    versions = [known for known in context.backend.registry.list() if known.name == name]
    if not versions:
        raise NotFound(f"no model is called {name!r:.80}: /v1/models lists those that are registered")
    return versions


def _model(name: str, versions: Sequence[RegisteredModel]) -> dict[str, Any]:
    return {
        "name": name,
        "version": versions[-1].version,
        "versions": [_version(model) for model in versions],
    }


def _version(model: RegisteredModel) -> dict[str, Any]:
    # Not its [params]: they may hold what only the model's author should see.
    config = model.config.to_document()
    return {
        "version": model.version,
        "digest": model.digest,
        "batching": config["batching"],
        "signature": config["signature"],
    }


def _worker(worker: Worker) -> dict[str, Any]:
    return {
        "id": str(worker.incarnation),
        "name": worker.name,
        "host": worker.host,
        "pid": worker.pid,
        "pool": worker.pool,
        "device": worker.device,
        "memory_bytes": worker.memory_bytes,
        "memory_budget_bytes": worker.memory_budget_bytes,
        "state": worker.state,
        "software": worker.software,
        "clock_ahead_s": worker.clock_ahead_s,
        "live": worker.live,
        "silent_s": worker.silent_s,
        "started_at": worker.started_at.isoformat(),
        "serves": [asdict(serving) for serving in worker.serves],
        "stats": worker.stats,
    }
