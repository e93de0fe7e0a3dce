"""Answers: JSON written by orjson, every error a problem document."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import compile_path

from shunter.producers.problems import MEDIA_TYPE, problem, problem_document
from shunter.storage.errors import InvalidInput, ShunterError, Unauthorized, Unavailable

log = logging.getLogger(__name__)

RETRY_AFTER_S = 1


def answer(document: Any, status: int = 200, *, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(
        orjson.dumps(document),
        status_code=status,
        media_type="application/json",
        headers=headers,
    )


def problem_answer(error: ShunterError) -> Response:
    """The answer that tells of an error."""
    headers = {}
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    return _problem(problem(error), headers)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route's documentation says of its errors."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: schema}}
        for status in statuses
    }


def install(app: FastAPI) -> None:
    """Make every error of the app a problem document."""
    app.add_exception_handler(ShunterError, _on_shunter_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_bad_parameter)
    app.add_exception_handler(Exception, _on_bug)


def _on_shunter_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ShunterError)
    if error.http_status >= 500:
        log.warning("%s %s: %s", request.method, request.url.path, error)
    return problem_answer(error)


def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    document = problem_document(
        error.status_code,
        code=phrase.lower().replace(" ", "_"),
        title=phrase,
        detail=f"{request.method} {request.url.path}: {phrase.lower()}; /docs lists what there is",
    )
    headers = {"Allow": _allowed(request)} if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED else {}
    return _problem(document, headers)


def _allowed(request: Request) -> str:
    """Every method of this path: the router names those of one route, and each of ours has its own."""
    paths: Mapping[str, Mapping[str, Any]] = request.app.openapi()["paths"]
    methods = [paths[path] for path in paths if compile_path(path)[0].match(request.url.path)]
    return ", ".join(sorted({method.upper() for each in methods for method in each})) or "GET"


def _on_bad_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = str(first["loc"][-1])
    return problem_answer(InvalidInput(f"{field}: {first['msg']}, not {first['input']!r:.60}", field=field))


def _on_bug(request: Request, error: Exception) -> Response:
    # Starlette logs the traceback; its text is nobody else's business.
    return problem_answer(ShunterError("an internal error; the log of the API has its traceback"))


def _problem(document: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    return Response(
        orjson.dumps(document), status_code=document["status"], media_type=MEDIA_TYPE, headers=headers
    )
