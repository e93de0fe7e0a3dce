"""The routes of scorings."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response

from shunter.producers.api.answers import answer, problems
from shunter.producers.api.body import MAX_DOCUMENT_BYTES, body_of, read_body, read_model
from shunter.producers.api.context import WithContext
from shunter.producers.schemas import (
    EstimateDocument,
    ReportDocument,
    RetryRequest,
    ScoringBody,
    ScoringDocument,
    ScoringsDocument,
)
from shunter.producers.scoring.request import ScoringStatus, scoring_document
from shunter.storage.scoring.request import ScoringRequest

router = APIRouter(prefix="/v1/scorings", tags=["scorings"])

MAX_PAGE = 100
HTML = "text/html"


@router.post(
    "",
    status_code=202,
    summary="Score a dataset",
    response_model=ScoringDocument,
    responses=problems(400, 404, 409, 413, 415, 422, 503),
    openapi_extra=body_of(ScoringBody),
)
async def create(request: Request, context: WithContext) -> Response:
    """Begins a scoring, or finds the one that answers the same question; places are those of the hosts."""
    body = read_model(ScoringBody, await read_body(request, MAX_DOCUMENT_BYTES))
    asked = ScoringRequest(**body.model_dump())
    status = await run_in_threadpool(lambda: context.backend.scorings.create(asked))
    return _accepted(status)


@router.post(
    "/estimate",
    summary="What a scoring would cost",
    response_model=EstimateDocument,
    responses=problems(400, 404, 413, 415, 422, 503),
    openapi_extra=body_of(ScoringBody),
)
async def estimate(request: Request, context: WithContext) -> Response:
    """Rows, workers and their measured rate; stores nothing."""
    body = read_model(ScoringBody, await read_body(request, MAX_DOCUMENT_BYTES))
    asked = ScoringRequest(**body.model_dump())
    return answer(asdict(await run_in_threadpool(lambda: context.backend.scorings.estimate(asked))))


@router.get(
    "",
    summary="List scorings, the newest first",
    response_model=ScoringsDocument,
    responses=problems(422, 503),
)
def find(
    context: WithContext,
    *,
    cursor: Annotated[UUID | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
) -> Response:
    """A page at a time."""
    found = context.backend.scorings.find(before=cursor, limit=limit + 1)
    more = found[limit - 1].id if len(found) > limit else None
    return answer({"scorings": [scoring_document(status) for status in found[:limit]], "next_cursor": more})


@router.get(
    "/{id}",
    summary="Where a scoring stands",
    response_model=ScoringDocument,
    responses=problems(404, 422, 503),
)
def get(context: WithContext, id: UUID) -> Response:
    """Rows, rate, seconds left and errors so far."""
    return answer(scoring_document(context.backend.scorings.get(id)))


@router.get(
    "/{id}/report",
    summary="What a scoring was like",
    response_model=ReportDocument,
    responses={200: {"content": {HTML: {}}}, **problems(404, 409, 422, 503)},
)
def report(
    context: WithContext, id: UUID, accept: Annotated[str, Header(include_in_schema=False)] = ""
) -> Response:
    """A page for a browser, else JSON; a 409 until it is built, a 404 if the scoring did not complete."""
    return page(context, id) if HTML in accept else answer(context.backend.scorings.report(id))


@router.get(
    "/{id}/report.html",
    summary="What a scoring was like, as a page",
    response_class=HTMLResponse,
    responses=problems(404, 409, 422, 503),
)
def page(context: WithContext, id: UUID) -> Response:
    """One page that needs nothing else."""
    return HTMLResponse(context.backend.scorings.report_page(id))


@router.post(
    "/{id}/cancel",
    summary="Cancel a scoring",
    response_model=ScoringDocument,
    responses=problems(404, 409, 422, 503),
)
def cancel(context: WithContext, id: UUID) -> Response:
    """Ends it and its chunks; one that has finished is a 409."""
    return answer(scoring_document(context.backend.scorings.cancel(id)))


@router.post(
    "/{id}/retry-errors",
    status_code=202,
    summary="Score the failed rows again",
    response_model=ScoringDocument,
    responses=problems(400, 404, 409, 413, 415, 422, 503),
    openapi_extra=body_of(RetryRequest),
)
async def retry_errors(request: Request, context: WithContext, id: UUID) -> Response:
    """Begins a scoring of the rows that failed in this one, by the newest version if none is named."""
    body = read_model(RetryRequest, await read_body(request, MAX_DOCUMENT_BYTES))
    status = await run_in_threadpool(
        lambda: context.backend.scorings.retry_errors(id, output=body.output, version=body.version)
    )
    return _accepted(status)


def _accepted(status: ScoringStatus) -> Response:
    return answer(scoring_document(status), 202, headers={"Location": f"/v1/scorings/{status.id}"})
