"""Errors as RFC 9457 problem documents, and back: over HTTP a caller gets the error it would get directly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shunter.storage import errors
from shunter.storage.errors import (
    ApiUnavailable,
    Conflict,
    InvalidInput,
    NotFound,
    ShunterError,
    Unauthorized,
)

MEDIA_TYPE = "application/problem+json"

MEMBERS = ("field", "errors", "job_id", "state", "key")
"""What errors carry beside their message."""

_BY_STATUS: Mapping[int, type[ShunterError]] = {
    401: Unauthorized,
    404: NotFound,
    409: Conflict,
    502: ApiUnavailable,
    503: ApiUnavailable,
    504: ApiUnavailable,
}


def problem(error: ShunterError) -> dict[str, Any]:
    """The problem document of an error."""
    title = (type(error).__doc__ or "").splitlines()[0].rstrip(".")
    members = {name: getattr(error, name, None) for name in MEMBERS}
    return {
        **problem_document(error.http_status, code=error.code, title=title, detail=error.message),
        **{name: value for name, value in members.items() if value is not None},
    }


def problem_document(status: int, *, code: str, title: str, detail: str) -> dict[str, Any]:
    """A problem document; programs go by its `code`."""
    return {
        "type": f"urn:shunter:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
    }


def error_of(document: Mapping[str, Any], status: int) -> ShunterError:
    """The error that a problem document tells of: of the type that the code names, else by the status."""
    code = str(document.get("code", ""))
    kind = _KINDS.get(code) or _by_status(status)
    # Not through the constructor: it would write the message anew.
    error = kind.__new__(kind)
    Exception.__init__(error, str(document.get("detail") or f"HTTP {status}"))
    error.code = code or kind.code
    for name in MEMBERS:
        setattr(error, name, document.get(name))
    return error


def _by_status(status: int) -> type[ShunterError]:
    return _BY_STATUS.get(status) or (InvalidInput if 400 <= status < 500 else ShunterError)


def _kinds() -> Mapping[str, type[ShunterError]]:
    """The public errors by their codes."""
    kinds = (kind for kind in vars(errors).values() if isinstance(kind, type))
    return {kind.code: kind for kind in kinds if issubclass(kind, ShunterError)}


_KINDS = _kinds()
