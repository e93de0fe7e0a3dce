"""The routes of schedules."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from shunter.producers.api.answers import answer, problems
from shunter.producers.api.body import body_of, read_body, read_model
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
from shunter.storage.schedules.definition import Definition

router = APIRouter(prefix="/v1/schedules", tags=["schedules"])

MAX_PAGE = 100


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
    body = read_model(ScheduleBody, await read_body(request, context.max_body_bytes))
    definition = Definition.from_document(body.model_dump(exclude={"name"}))
    status = await run_in_threadpool(lambda: context.backend.schedules.add(body.name, definition))
    return answer(schedule_document(status), 201, headers={"Location": f"/v1/schedules/{status.name}"})


@router.get(
    "", summary="List schedules by name", response_model=SchedulesDocument, responses=problems(422, 503)
)
def find(
    context: WithContext,
    *,
    cursor: Annotated[str, Query(description="`next_cursor` of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
) -> Response:
    """A page at a time."""
    found = context.backend.schedules.find(after=_text("cursor", cursor), limit=limit + 1)
    more = found[limit - 1].name if len(found) > limit else None
    documents = [schedule_document(status) for status in found[:limit]]
    return answer({"schedules": documents, "next_cursor": more})


@router.get(
    "/{name}", summary="A schedule", response_model=ScheduleDocument, responses=problems(404, 422, 503)
)
def get(context: WithContext, name: str) -> Response:
    """What it says, its next windows, and how its backfill stands."""
    return answer(schedule_document(context.backend.schedules.get(_text("name", name))))


@router.delete(
    "/{name}",
    summary="Remove a schedule",
    response_model=RemovedDocument,
    responses=problems(404, 422, 503),
)
def remove(context: WithContext, name: str) -> Response:
    """Forgets it and its history; scorings under way go on, and datasets stay."""
    context.backend.schedules.remove(_text("name", name))
    return answer({"name": name})


@router.post(
    "/{name}/pause",
    summary="Pause a schedule",
    response_model=ScheduleDocument,
    responses=problems(404, 422, 503),
)
def pause(context: WithContext, name: str) -> Response:
    """Begins no window any more; what is under way goes on."""
    return answer(schedule_document(context.backend.schedules.pause(_text("name", name), paused=True)))


@router.post(
    "/{name}/resume",
    summary="Resume a schedule",
    response_model=ScheduleDocument,
    responses=problems(404, 422, 503),
)
def resume(context: WithContext, name: str) -> Response:
    """Windows that passed meanwhile are missed, and treated as the schedule says."""
    return answer(schedule_document(context.backend.schedules.pause(_text("name", name), paused=False)))


@router.post(
    "/{name}/run",
    status_code=202,
    summary="Fire a window now",
    response_model=WindowDocument,
    responses=problems(400, 404, 413, 415, 422, 503),
    openapi_extra=body_of(RunBody),
)
async def run(request: Request, context: WithContext, name: str) -> Response:
    """The latest window if none is named; one that was fired is left alone, but for `again`."""
    body = read_model(RunBody, await read_body(request, context.max_body_bytes))
    window = None if body.window is None else _moment("window", body.window)
    status = await run_in_threadpool(
        lambda: context.backend.schedules.run(_text("name", name), window=window, again=body.again)
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
async def backfill(request: Request, context: WithContext, name: str) -> Response:
    """Queues the windows of these days that have no dataset yet, each once."""
    body = read_model(BackfillBody, await read_body(request, context.max_body_bytes))
    days = DateRange.of(body.first, body.last)
    queued = await run_in_threadpool(
        lambda: context.backend.schedules.backfill(_text("name", name), days, at_once=body.at_once)
    )
    return answer({"windows": queued}, 202)


@router.post(
    "/{name}/backfill/pause",
    summary="Pause a backfill",
    response_model=ScheduleDocument,
    responses=problems(404, 422, 503),
)
def pause_backfill(context: WithContext, name: str) -> Response:
    """Begins no window of it any more; the schedule goes on."""
    return _hold_backfill(context, name, paused=True)


@router.post(
    "/{name}/backfill/resume",
    summary="Resume a backfill",
    response_model=ScheduleDocument,
    responses=problems(404, 422, 503),
)
def resume_backfill(context: WithContext, name: str) -> Response:
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
    name: str,
    *,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
) -> Response:
    """A page at a time, the latest first."""
    before = None if cursor is None else _moment("cursor", cursor)
    found = context.backend.schedules.history(_text("name", name), before=before, limit=limit + 1)
    more = found[limit - 1].window_start.isoformat() if len(found) > limit else None
    return answer({"windows": [window_document(each) for each in found[:limit]], "next_cursor": more})


def _hold_backfill(context: WithContext, name: str, *, paused: bool) -> Response:
    status = context.backend.schedules.pause(_text("name", name), paused=paused, backfill_only=True)
    return answer(schedule_document(status))


def _text(field: str, value: str) -> str:
    """Text that Postgres can compare; InvalidInput."""
    if "\x00" in value or not value.isprintable():
        raise InvalidInput(f"{field} is {value!r:.80}: give the name of a schedule", field=field)
    return value


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
