"""A submission's body: read within a limit, parsed once, refused with the place of what is wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from shunter.producers.api.body_room import Take
from shunter.producers.schemas import JobRequest
from shunter.storage.errors import InvalidInput, TooLarge
from shunter.storage.payload import from_json
from shunter.storage.settings import MAX_JOB_BYTES

MAX_BODY_BYTES = 2 * MAX_JOB_BYTES
"""JSON takes more room than the encoded rows: base64 a third, numbers as text two times and more."""

MAX_BODIES_BYTES = 4 * MAX_BODY_BYTES
"""Of all requests under way."""

MAX_DOCUMENT_BYTES = 2**20
"""Of a request that names things, and holds no rows."""

MAX_ERRORS = 20

ModelT = TypeVar("ModelT", bound=BaseModel)

_NOT_A_NUMBER = re.compile(r"-?(NaN|nan|Infinity|inf)|-?[\d.]+[eE]")


class InvalidBody(InvalidInput):
    """The body is not as documented."""

    def __init__(self, message: str, *, field: str | None, errors: Sequence[Mapping[str, str]]) -> None:
        super().__init__(message, field=field)
        self.errors = list(errors)


class MalformedJson(InvalidInput):
    """The body is not JSON."""

    code = "malformed_json"
    http_status = 400


class UnsupportedMediaType(InvalidInput):
    """The body is of a type that this does not take."""

    code = "unsupported_media_type"
    http_status = 415


async def read_body(request: Request, limit: int, take: Take | None = None) -> bytes:
    """The raw body; UnsupportedMediaType, TooLarge as soon as it is known, or what `take` raises."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        # A page in a browser can post other types to any address without asking its owner.
        raise UnsupportedMediaType(f"the body is {kind or 'untyped'}: send Content-Type: application/json")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(int(declared), limit)
    body = bytearray()
    async for chunk in request.stream():
        if take is not None:
            take(len(chunk))
        body += chunk
        if len(body) > limit:
            raise _too_large(len(body), limit)
    return bytes(body)


def parse_body(body: bytes) -> JobRequest:
    """The request in a body, its rows with bytes as bytes; MalformedJson, InvalidBody or InvalidInput."""
    request = read_model(JobRequest, body)
    if isinstance(request.inputs, list):
        request.inputs = [
            from_json(value, where=f"inputs[{index}]") for index, value in enumerate(request.inputs)
        ]
    return request


def read_model(kind: type[ModelT], body: bytes) -> ModelT:
    """What a body says; MalformedJson, InvalidBody or InvalidInput."""
    document = _parse(body)
    if not isinstance(document, dict):
        wanted = ", ".join(
            f'"{name}": ...' for name, field in kind.model_fields.items() if field.is_required()
        )
        raise InvalidInput(f"the body is not a JSON object: send {{{wanted}}}", code="invalid_body")
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise _refusal(error, list(kind.model_fields)) from error


def body_of(kind: type[BaseModel]) -> dict[str, object]:
    """What a route's documentation says of a body that is read by `read_model`."""
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        found = _NOT_A_NUMBER.match(error.doc, error.pos)
        if found is not None:
            raise MalformedJson(
                f"{place}: NaN, infinities and numbers too large for a float are not JSON: "
                "send null in their place, or submit directly from Python",
                code="not_finite",
            ) from error
        raise MalformedJson(f"the body is not JSON: {place}: {error.msg}") from error


def _refusal(error: ValidationError, known: Sequence[str]) -> InvalidBody:
    """Every field at fault, the first one in the message."""
    # A misspelt field is also a missing one: the spelling is what helps.
    found = sorted(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
    errors = [
        {"field": ".".join(map(str, each["loc"])), "message": _message(each, known)}
        for each in found[:MAX_ERRORS]
    ]
    first = errors[0]
    return InvalidBody(f"{first['field']}: {first['message']}", field=first["field"], errors=errors)


def _message(found: Mapping[str, Any], known: Sequence[str]) -> str:
    if found["type"] == "missing":
        return "this field is required: give it"
    if found["type"] != "extra_forbidden":
        return f"{found['msg']}, not {found['input']!r:.60}"
    near = difflib.get_close_matches(str(found["loc"][-1]), known, n=1)
    return f"unknown field: {f'did you mean {near[0]!r}?' if near else 'known are ' + ', '.join(known)}"


def _too_large(size: int, limit: int) -> TooLarge:
    return TooLarge(
        f"the body has {size} bytes or more, and one request may have {limit}: "
        "send the rows in several jobs, or score the dataset where it lies"
    )
