"""The API keeps to its own OpenAPI document whatever is sent: generated requests, checked answers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from schemathesis import APIOperation, BaseSchema, Case, CheckFunction, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from shunter.producers.api import create_app
from shunter.storage.settings import Settings
from tests.api_server import serving
from tests.fake_worker import FakeWorker, register_models

LONGEST_WAIT_S = 0.05
EXAMPLES = 20

NAME_A_MODEL = ("/v1/jobs", "/v1/jobs/{id}/redrive")
"""A well-formed request here may name a model, or a version, that there is not."""

REFUSALS = [400, 404, 405, 406, 409, 413, 415, 422, "5xx"]
"""Schemathesis' own list has no 413, with which a body of too many rows is refused."""

CONFIG = schemathesis.Config.from_dict(
    {"checks": {"negative_data_rejection": {"expected-statuses": REFUSALS}}}
)

Operation = APIOperation[Any, Any, Any, Any]


@pytest.fixture
def url(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[str]:
    settings = Settings(database_url=database_url, redis_url=redis_url, object_store=f"file://{tmp_path}")
    register_models(settings, "echo")
    with FakeWorker(settings), serving(create_app(settings)) as url:
        yield url


@pytest.fixture
def job_id(url: str) -> str:
    """A finished job, so that generated requests find one."""
    answer = httpx.post(f"{url}/v1/jobs", json={"model": "echo", "inputs": [1, {"fail": "odd"}]})
    id = answer.json()["id"]
    httpx.get(f"{url}/v1/jobs/{id}", params={"wait": 30})
    return str(id)


def operations(url: str) -> list[Operation]:
    schema: BaseSchema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=CONFIG)
    return [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]


def impatient(case: Case[Any]) -> Case[Any]:
    """The same request, which waits no longer than the tests can."""
    wait = (case.query or {}).get("wait")
    if isinstance(wait, int | float) and wait > LONGEST_WAIT_S:
        case.query["wait"] = LONGEST_WAIT_S
    return case


def check(operation: Operation, mode: GenerationMode, **fixed: Any) -> None:
    @hypothesis_settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(generation_mode=mode, **fixed))
    def every_answer_is_documented(case: Case[Any]) -> None:
        # A well-formed submission may name a model that there is not.
        names_a_model = operation.path in NAME_A_MODEL or bool(operation.body)
        excluded: list[CheckFunction] = [positive_data_acceptance] if names_a_model else []
        impatient(case).call_and_validate(excluded_checks=excluded)

    every_answer_is_documented()


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_whatever_is_sent_the_answer_is_documented(url: str, mode: GenerationMode) -> None:
    for operation in operations(url):
        # Whatever text stands in a path is a name, and so nothing there can be wrong.
        if mode is GenerationMode.POSITIVE or operation.query or operation.body:
            check(operation, mode)


def test_answers_about_a_real_job_are_as_documented(url: str, job_id: str) -> None:
    for operation in operations(url):
        if operation.path.startswith("/v1/jobs/{id}"):
            for id in (job_id, f"{job_id}.0", f"{job_id}.1"):
                check(operation, GenerationMode.POSITIVE, path_parameters={"id": id})
