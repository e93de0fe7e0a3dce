"""The routes of jobs and items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Path, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from shunter.producers.api.answers import answer, problems
from shunter.producers.api.body import parse_body, read_body
from shunter.producers.api.context import Context, WithContext
from shunter.producers.documents import job_document, results_document
from shunter.producers.handles import view_item
from shunter.producers.schemas import (
    JobDocument,
    JobRequest,
    JobsDocument,
    ResultsDocument,
    TimelineDocument,
)
from shunter.producers.status import JobStatus
from shunter.producers.submission import MAX_KEY_CHARS, MAX_VERSION, Options
from shunter.storage.errors import InvalidInput, ItemNotCancellable, NotRedrivable
from shunter.storage.ids import parse_item_id
from shunter.storage.job import JobState

MAX_WAIT_S = 60
MAX_IDS = 100
MAX_PAGE = 100

UUID_PATTERN = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

# Documented, not checked, by pattern: the refusal of `parse_item_id` says more.
Id = Annotated[
    str,
    Path(
        description="The id of a job, or of an item: `{job}.{index}`.",
        json_schema_extra={"pattern": f"^{UUID_PATTERN}(\\.(0|[1-9][0-9]{{0,8}}))?$"},
    ),
]
Wait = Annotated[
    float, Query(ge=0, le=MAX_WAIT_S, description="Seconds to wait for the job to end before answering.")
]
Key = Annotated[
    str | None,
    Header(max_length=MAX_KEY_CHARS, description="A second request with this key gets the first one's job."),
]

Version = Annotated[
    int | None, Query(ge=1, le=MAX_VERSION, description="The model version; the job's own if left out.")
]
Again = Annotated[bool, Query(description="Submit another job, even if there is one.")]

_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/JobRequest"}}},
    }
}


@router.post(
    "",
    status_code=202,
    summary="Submit rows as one job",
    response_model=JobDocument,
    responses=problems(400, 409, 413, 415, 422, 503),
    openapi_extra=_BODY,
)
async def submit(request: Request, context: WithContext, idempotency_key: Key = None) -> Response:
    """The job is stored when this answers; poll its `self` link, or ask with `?wait=`."""
    with context.bodies.hold() as take:
        body = await read_body(request, context.max_body_bytes, take)
        status = await run_in_threadpool(_submit, context, body, _utf8(idempotency_key))
    return answer(job_document(status), 202, headers={"Location": f"/v1/jobs/{status.id}"})


@router.get(
    "", summary="List jobs, the newest first", response_model=JobsDocument, responses=problems(422, 503)
)
async def find(
    context: WithContext,
    *,
    state: JobState | None = None,
    model: Annotated[str | None, Query(pattern=r"^[^\x00]*$")] = None,
    cursor: Annotated[UUID | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    ids: Annotated[
        str | None,
        Query(
            description=f"Only these jobs, up to {MAX_IDS} ids with commas; `wait` until one has ended.",
            json_schema_extra={"pattern": f"^{UUID_PATTERN}(,{UUID_PATTERN}){{0,{MAX_IDS - 1}}}$"},
        ),
    ] = None,
    wait: Wait = 0,
) -> Response:
    """Jobs by state and model, a page at a time; or the ones named by `ids`."""
    if ids is not None:
        return await _named(context, _job_ids(ids), wait)
    found = await run_in_threadpool(
        context.backend.find, state=state, model=model, before=cursor, limit=limit + 1
    )
    page = found[:limit]
    more = page[-1].id if len(found) > limit else None
    return answer({"jobs": [job_document(status) for status in page], "next_cursor": more})


@router.get(
    "/{id}",
    summary="Where a job or an item stands",
    response_model=JobDocument,
    responses=problems(404, 422, 503),
)
async def get(context: WithContext, id: Id, wait: Wait = 0) -> Response:
    """The job document; `waiting` says why a queued job has not begun."""
    return answer(job_document(await _ended(context, id, wait)))


@router.get(
    "/{id}/results",
    summary="The outputs and errors of a finished job or item",
    response_model=ResultsDocument,
    responses=problems(404, 409, 422, 503),
)
async def results(context: WithContext, id: Id, wait: Wait = 0) -> Response:
    """The results document; a null output is a failure only if `errors` names its index."""
    await _ended(context, id, wait)
    return await run_in_threadpool(_results, context, id)


@router.get(
    "/{id}/timeline",
    summary="What happened to a job, and when",
    response_model=TimelineDocument,
    responses=problems(404, 422, 503),
)
def timeline(context: WithContext, id: Id) -> Response:
    """Submitted, published again, claimed by whom, failed runs, settled; an item tells of its job."""
    job_id, _ = parse_item_id(id)
    events = context.backend.timeline(job_id)
    return answer({"id": str(job_id), "events": [event.document() for event in events]})


@router.post(
    "/{id}/cancel",
    summary="Cancel a job",
    response_model=JobDocument,
    responses=problems(404, 409, 422, 503),
)
def cancel(context: WithContext, id: Id) -> Response:
    """Cancels a queued or running job, whole; one that has finished is a 409."""
    job_id, index = parse_item_id(id)
    if index is not None:
        _view(context, id)
        raise ItemNotCancellable(id, job_id)
    return answer(job_document(context.backend.cancel(job_id)))


@router.post(
    "/{id}/redrive",
    status_code=202,
    summary="Run the failed rows of a job again",
    response_model=JobDocument,
    responses=problems(404, 409, 413, 422, 503),
)
def redrive(context: WithContext, id: Id, version: Version = None, again: Again = False) -> Response:
    """A new job with the failed rows only, in their order; the same one each time, unless `again`."""
    job_id, index = parse_item_id(id)
    if index is not None:
        raise NotRedrivable(id, f"it is one row of job {job_id}: redrive that, its failed rows run again")
    accepted = context.backend.redrive(job_id, version=version, again=again)
    status = context.backend.status(accepted.id)
    return answer(job_document(status), 202, headers={"Location": f"/v1/jobs/{status.id}"})


def _submit(context: Context, body: bytes, key: str | None) -> JobStatus:
    request = parse_body(body)
    accepted = context.backend.submit(request.model, request.inputs, _options(request, key))
    return context.backend.status(accepted.id)


def _options(request: JobRequest, key: str | None) -> Options:
    return Options(
        version=request.version,
        priority=request.priority,
        deadline_s=request.deadline_s,
        idempotency_key=key,
        metadata=request.metadata,
    )


async def _ended(context: Context, id: str, wait_s: float) -> JobStatus:
    """Where it stands, once it has ended or the wait is over."""
    status = await run_in_threadpool(_view, context, id)
    if wait_s > 0 and not status.done:
        await context.polls.any_ended([parse_item_id(id)[0]], wait_s)
        status = await run_in_threadpool(_view, context, id)
    return status


def _view(context: Context, id: str) -> JobStatus:
    job_id, index = parse_item_id(id)
    status = context.backend.status(job_id)
    return status if index is None else view_item(context.backend, status, index)


def _results(context: Context, id: str) -> Response:
    job_id, index = parse_item_id(id)
    found = context.backend.results(job_id)
    return answer(results_document(found if index is None else found.item(index)))


async def _named(context: Context, ids: Sequence[UUID], wait_s: float) -> Response:
    found = await run_in_threadpool(context.backend.statuses, ids)
    if wait_s > 0 and found and not any(status.done for status in found):
        await context.polls.any_ended([UUID(status.id) for status in found], wait_s)
        found = await run_in_threadpool(context.backend.statuses, ids)
    return answer({"jobs": [job_document(status) for status in found], "next_cursor": None})


def _job_ids(text: str) -> list[UUID]:
    parsed = [parse_item_id(id.strip()) for id in text.split(",")]
    if len(parsed) > MAX_IDS or any(index is not None for _, index in parsed):
        raise InvalidInput(
            f"ids takes up to {MAX_IDS} ids of jobs, and none of items: ask in parts", field="ids"
        )
    return [id for id, _ in parsed]


def _utf8(key: str | None) -> str | None:
    """A header as its sender wrote it: HTTP libraries read latin-1, and clients send UTF-8."""
    return None if key is None else key.encode("latin-1").decode("utf-8", "replace")
