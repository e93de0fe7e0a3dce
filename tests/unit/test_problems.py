"""Errors cross HTTP as problem documents, and arrive as what they were."""

import pytest

from shunter.producers.problems import error_of, problem
from shunter.storage.errors import (
    AlreadyFinished,
    ApiUnavailable,
    Conflict,
    IdempotencyConflict,
    InvalidInput,
    ItemNotCancellable,
    NotFound,
    ShunterError,
    TooLarge,
    Unauthorized,
    UnknownJob,
)


@pytest.mark.parametrize(
    "error",
    [
        UnknownJob("1"),
        IdempotencyConflict("key", "1"),
        ItemNotCancellable("1.2", "1"),
        AlreadyFinished("1", "failed"),
        TooLarge("too many", field="inputs"),
        InvalidInput("no", code="malformed_json"),
        Unauthorized("who?"),
    ],
)
def test_an_error_arrives_as_what_it_was(error: ShunterError) -> None:
    arrived = error_of(problem(error), error.http_status)
    assert type(arrived) is type(error)
    assert arrived.message == error.message
    assert arrived.code == error.code
    assert {name: getattr(arrived, name, None) for name in vars(error)} == vars(error)


def test_a_problem_document_has_the_standard_members() -> None:
    assert problem(InvalidInput("version is 0: versions are positive", field="version")) == {
        "type": "urn:shunter:problem:invalid_input",
        "title": "The request cannot be accepted as it stands",
        "status": 422,
        "detail": "version is 0: versions are positive",
        "code": "invalid_input",
        "field": "version",
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Unauthorized),
        (404, NotFound),
        (405, InvalidInput),
        (409, Conflict),
        (500, ShunterError),
        (502, ApiUnavailable),
        (503, ApiUnavailable),
    ],
)
def test_an_unknown_code_is_judged_by_its_status(status: int, kind: type[ShunterError]) -> None:
    error = error_of({"code": "from_the_future", "detail": "new"}, status)
    assert type(error) is kind
    assert (error.code, error.message) == ("from_the_future", "new")
