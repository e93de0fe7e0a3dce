"""The routes of schedules."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from shunter.producers.api.answers import answer, problems
from shunter.producers.api.body import MAX_DOCUMENT_BYTES, body_of, read_body, read_model
from shunter.producers.api.context import WithContext
from shunter.producers.schedule_schemas import (
    BackfillBody,
    BackfilledDocument,
    HistoryDocument,
    RemovedDocument,
    RunBody,
    ScheduleBody,
    ScheduleDocument,
    SchedulesDocument,
    WindowDocument,
)
from shunter.producers.schedules.documents import schedule_document, window_document
from shunter.producers.schedules.request import DateRange
from shunter.storage.errors import InvalidInput
from shunter.storage.schedules.definition import NAME, Definition

router = APIRouter(prefix="/v1/schedules", tags=["schedules"])

MAX_PAGE = 100

LAST_S = 100_000_000_000
"""Seconds since 1970 that a page of windows may begin at: the year 5138."""

Name = Annotated[str, Path(pattern=f"^{NAME.pattern}$")]


@router.post(
    "",
    status_code=201,
    summary="Add a schedule",
    response_model=ScheduleDocument,
    responses=problems(400, 409, 413, 415, 422, 503),
    openapi_extra=body_of(ScheduleBody),
)
async def add(request: Request, context: WithContext) -> Response:
    """Stores it, or finds the same; another one of its name is a 409."""
    body = read_model(ScheduleBody, await read_body(request, MAX_DOCUMENT_BYTES))
    definition = Definition.from_document(body.model_dump(exclude={"name"}))
    status = await run_in_threadpool(lambda: context.backend.schedules.add(body.name, definition))
    return answer(schedule_document(status), 201, headers={"Location": f"/v1/schedules/{status.name}"})


@router.get(
    "", summary="List schedules by name", response_model=SchedulesDocument, responses=problems(422, 503)
)
def find(
    context: WithContext,
    *,
    cursor: Annotated[
        str, Query(pattern=f"^({NAME.pattern})?$", description="`next_cursor` of the page before.")
    ] = "",
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
) -> Response:
    """A page at a time."""
    found = context.backend.schedules.find(after=cursor, limit=limit + 1)
    more = found[limit - 1].name if len(found) > limit else None
    documents = [schedule_document(status) for status in found[:limit]]
    return answer({"schedules": documents, "next_cursor": more})


@router.get(
    "/{name}", summary="A schedule", response_model=ScheduleDocument, responses=problems(404, 422, 503)
)
def get(context: WithContext, name: Name) -> Response:
    """What it says, its next windows, and how its backfill stands."""
    return answer(schedule_document(context.backend.schedules.get(name)))


@router.delete(
    "/{name}",
    summary="Remove a schedule",
    response_model=RemovedDocument,
    responses=problems(404, 422, 503),
)
def remove(context: WithContext, name: Name) -> Response:
    """Forgets it and its history; scorings under way go on, and datasets stay."""
    context.backend.schedules.remove(name)
    return answer({"name": name})


@router.post(
    "/{name}/pause",
    summary="Pause a schedule",
    response_model=ScheduleDocument,
    responses=problems(404, 422, 503),
)
def pause(context: WithContext, name: Name) -> Response:
    """Begins no window any more; what is under way goes on."""
    return answer(schedule_document(context.backend.schedules.pause(name, paused=True)))


@router.post(
    "/{name}/resume",
    summary="Resume a schedule",
    response_model=ScheduleDocument,
    responses=problems(404, 422, 503),
)
def resume(context: WithContext, name: Name) -> Response:
    """Windows that passed meanwhile are missed, and treated as the schedule says."""
    return answer(schedule_document(context.backend.schedules.pause(name, paused=False)))


@router.post(
    "/{name}/run",
    status_code=202,
    summary="Fire a window now",
    response_model=WindowDocument,
    responses=problems(400, 404, 413, 415, 422, 503),
    openapi_extra=body_of(RunBody),
)
async def run(request: Request, context: WithContext, name: Name) -> Response:
    """The latest window if none is named; one that was fired is left alone, but for `again`."""
    body = read_model(RunBody, await read_body(request, MAX_DOCUMENT_BYTES))
    window = None if body.window is None else _moment("window", body.window)
    status = await run_in_threadpool(
        lambda: context.backend.schedules.run(name, window=window, again=body.again)
    )
    return answer(window_document(status), 202)


@router.post(
    "/{name}/backfill",
    status_code=202,
    summary="Score past days",
    response_model=BackfilledDocument,
    responses=problems(400, 404, 413, 415, 422, 503),
    openapi_extra=body_of(BackfillBody),
)
async def backfill(request: Request, context: WithContext, name: Name) -> Response:
    """Queues the windows of these days that have no dataset yet, each once."""
    body = read_model(BackfillBody, await read_body(request, MAX_DOCUMENT_BYTES))
    days = DateRange.of(body.first, body.last)
    queued = await run_in_threadpool(
        lambda: context.backend.schedules.backfill(name, days, at_once=body.at_once)
    )
    return answer({"windows": queued}, 202)


@router.post(
    "/{name}/backfill/pause",
    summary="Pause a backfill",
    response_model=ScheduleDocument,
    responses=problems(404, 422, 503),
)
def pause_backfill(context: WithContext, name: Name) -> Response:
    """Begins no window of it any more; the schedule goes on."""
    return _hold_backfill(context, name, paused=True)


@router.post(
    "/{name}/backfill/resume",
    summary="Resume a backfill",
    response_model=ScheduleDocument,
    responses=problems(404, 422, 503),
)
def resume_backfill(context: WithContext, name: Name) -> Response:
    """Goes on where it stopped."""
    return _hold_backfill(context, name, paused=False)


@router.get(
    "/{name}/history",
    summary="What became of each window",
    response_model=HistoryDocument,
    responses=problems(404, 422, 503),
)
def history(
    context: WithContext,
    name: Name,
    *,
    cursor: Annotated[
        int | None, Query(ge=0, le=LAST_S, description="`next_cursor` of the page before.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
) -> Response:
    """A page at a time, the latest first."""
    before = None if cursor is None else datetime.fromtimestamp(cursor, UTC)
    found = context.backend.schedules.history(name, before=before, limit=limit + 1)
    more = int(found[limit - 1].window_start.timestamp()) if len(found) > limit else None
    return answer({"windows": [window_document(each) for each in found[:limit]], "next_cursor": more})


def _hold_backfill(context: WithContext, name: Name, *, paused: bool) -> Response:
    status = context.backend.schedules.pause(name, paused=paused, backfill_only=True)
    return answer(schedule_document(status))


def _moment(field: str, text: str) -> datetime:
    """An instant, as ISO 8601 writes it with its offset; InvalidInput."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise InvalidInput(
        f"{field} is {text!r:.80}: give an instant with its offset, such as 2026-01-31T02:00:00+01:00",
        field=field,
    )
