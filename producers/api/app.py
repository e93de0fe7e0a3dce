"""The app: one per process or test, without global state."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

from anyio.to_thread import current_default_thread_limiter
from fastapi import Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from shunter.producers.api import answers
from shunter.producers.api.body import MAX_BODIES_BYTES, MAX_BODY_BYTES
from shunter.producers.api.body_room import BodyRoom
from shunter.producers.api.context import Context
from shunter.producers.api.docs_page import add_docs_page
from shunter.producers.api.fleet import fleet, health
from shunter.producers.api.jobs import router as jobs
from shunter.producers.api.long_polls import LongPolls
from shunter.producers.api.metrics import CountRequests, Metrics
from shunter.producers.api.schedules import router as schedules
from shunter.producers.api.scorings import router as scorings
from shunter.producers.direct import DirectBackend
from shunter.producers.schedule_schemas import BackfillBody, RunBody, ScheduleBody
from shunter.producers.schemas import JobRequest, Problem, RetryRequest, ScoringBody
from shunter.storage.errors import Unauthorized
from shunter.storage.queue_depth import depths
from shunter.storage.settings import Settings

BODIES = (JobRequest, ScoringBody, RetryRequest, ScheduleBody, RunBody, BackfillBody, Problem)
"""What routes refer to in the documentation without naming it to FastAPI."""

_bearer = HTTPBearer(auto_error=False)

THREADS = 16
"""Requests that may talk to the services at once; the pool of database connections holds as many."""


def create_app(
    settings: Settings, *, max_body_bytes: int = MAX_BODY_BYTES, max_bodies_bytes: int = MAX_BODIES_BYTES
) -> FastAPI:
    """The HTTP API over the services that the settings name; it connects when first asked.

    If the settings hold an API key, everything under /v1 asks for it.
    """
    backend = DirectBackend(settings)
    context = Context(
        backend=backend,
        polls=LongPolls(backend.watcher),
        metrics=Metrics(partial(depths, backend.database), backend.workers.present),
        max_body_bytes=max_body_bytes,
        bodies=BodyRoom(max_bodies_bytes),
    )
    app = FastAPI(
        title="Shunter",
        summary="An asynchronous, queue-based fleet of batch inference workers.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
    )
    app.state.context = context
    guard = [Depends(_key_check(settings.api_key))] if settings.api_key else []
    for router in (jobs, scorings, schedules, fleet):
        app.include_router(router, dependencies=guard, responses=answers.problems(401) if guard else {})
    app.include_router(health)
    add_docs_page(app)
    answers.install(app)
    app.add_middleware(CountRequests, metrics=context.metrics)
    app.openapi = partial(_openapi, app)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    current_default_thread_limiter().total_tokens = THREADS
    yield
    context: Context = app.state.context
    await run_in_threadpool(context.backend.close)


def _key_check(key: str) -> Any:
    def check(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
        given = "" if credentials is None else credentials.credentials
        if not hmac.compare_digest(given.encode(), key.encode()):
            raise Unauthorized(
                "this API asks for its key: send Authorization: Bearer <key>, or set SHUNTER_API_KEY"
            )

    return check


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version="1", summary=app.summary, routes=app.routes)
        components = schema.setdefault("components", {}).setdefault("schemas", {})
        for model in BODIES:
            components[model.__name__] = model.model_json_schema(ref_template="#/components/schemas/{model}")
        app.openapi_schema = schema
    return app.openapi_schema
