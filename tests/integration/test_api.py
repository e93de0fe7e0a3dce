"""The HTTP API over real services."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from shunter.producers.api import create_app
from shunter.storage.database import Database
from shunter.storage.ids import new_id
from shunter.storage.settings import Settings
from shunter.storage.software import VERSION
from shunter.storage.worker_registry import WorkerRegistry
from tests.api_server import serving
from tests.fake_worker import FakeWorker, register_models
from tests.waiting import wait_until

MAX_BODY_BYTES = 4096
POLLS = 200
JSON = {"Content-Type": "application/json"}

RESULTS_KEYS = {"id", "outputs", "errors"}
JOB_KEYS = {
    *("id", "model", "version", "state", "priority", "rows", "attempts", "waiting", "created_at"),
    *("started_at", "finished_at", "error", "metadata", "links"),
}

BAD_PARAMETERS: list[tuple[str, Any]] = [
    ("state", "lost"),
    ("cursor", "7"),
    ("limit", 0),
    ("limit", "many"),
    ("wait", 61),
    ("wait", "nan"),
    ("ids", "7"),
    ("ids", f"{UUID(int=1)}.0"),
    ("ids", ",".join([str(UUID(int=1))] * 101)),
    ("model", "\x00"),
]

BAD_BODIES: list[tuple[bytes, int, str, str]] = [
    (b"", 400, "malformed_json", "line 1 column 1"),
    (b'{"model": "echo",\n "inputs": [1,}', 400, "malformed_json", "line 2 column"),
    (b"\xff", 400, "malformed_json", "UTF-8"),
    (b'{"model": "echo", "inputs": ["\\ud800"]}', 400, "malformed_json", "surrogate"),
    (b'{"model": "echo", "inputs": [NaN]}', 400, "not_finite", "NaN"),
    (b'{"model": "echo", "inputs": [-Infinity]}', 400, "not_finite", "NaN, infinities"),
    (b'{"model": "echo", "inputs": [1e999]}', 400, "not_finite", "too large"),
    (b'["echo"]', 422, "invalid_body", "not a JSON object"),
    (b'{"model": "echo", "inputs": []}', 422, "empty_rows", "at least one"),
    (b'{"model": "echo", "inputs": [{"$bytes": "?"}]}', 422, "invalid_input", "inputs[0]"),
    (b'{"model": "echo", "inputs": [1], "metadata": {"a": "\\u0000"}}', 422, "invalid_input", "NUL"),
    (b'{"model": "ecoh", "inputs": [1]}', 422, "unknown_model", "did you mean 'echo'?"),
    (b'{"model": "echo", "inputs": [1], "version": 9}', 422, "unknown_model", "version 9"),
]

BAD_FIELDS: list[tuple[str, Any]] = [
    ("model", None),
    ("model", 7),
    ("model", ""),
    ("inputs", "text"),
    ("inputs", {"a": 1}),
    ("inputs", 1),
    ("inputs", None),
    ("version", "1"),
    ("version", True),
    ("version", 0),
    ("version", 2**40),
    ("priority", "urgent"),
    ("deadline_s", 0),
    ("deadline_s", "10"),
    ("metadata", []),
    ("priorty", "bulk"),
]


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    settings = Settings(database_url=database_url, redis_url=redis_url, object_store=f"file://{tmp_path}")
    register_models(settings, "echo", "negate")
    return settings


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return create_app(settings, max_body_bytes=MAX_BODY_BYTES)


@pytest.fixture
def url(app: FastAPI) -> Iterator[str]:
    with serving(app) as url:
        yield url


@pytest.fixture
def api(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture
def worker(settings: Settings) -> Iterator[FakeWorker]:
    with FakeWorker(settings) as worker:
        yield worker


def submit(api: httpx.Client, *inputs: Any, **more: Any) -> dict[str, Any]:
    answer = api.post("/v1/jobs", json={"model": "echo", "inputs": list(inputs), **more})
    assert answer.status_code == 202, answer.text
    document: dict[str, Any] = answer.json()
    return document


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document of an answer, which must be one."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), (
        answer.text
    )
    document: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail", "code"} <= set(document)
    assert (document["status"], document["code"]) == (status, code)
    return document


class TestJobs:
    def test_a_job_is_accepted_with_its_location(self, api: httpx.Client) -> None:
        answer = api.post("/v1/jobs", json={"model": "echo", "inputs": [1, 2], "metadata": {"run": 7}})
        assert answer.status_code == 202
        document = answer.json()
        assert set(document) == JOB_KEYS
        assert answer.headers["location"] == document["links"]["self"] == f"/v1/jobs/{document['id']}"
        assert document["state"] == "queued"
        assert document["waiting"]["code"] == "no_worker"
        assert api.get(answer.headers["location"]).json() == document

    @pytest.mark.usefixtures("worker")
    def test_waiting_returns_the_finished_job_and_its_results(self, api: httpx.Client) -> None:
        job = submit(api, "a", {"fail": "odd"}, {"$bytes": "AP8="}, None)
        done = api.get(job["links"]["self"], params={"wait": 30}).json()
        assert (done["state"], done["waiting"]) == ("succeeded", None)
        assert done["rows"] == {"total": 4, "succeeded": 3, "failed": 1}
        results = api.get(job["links"]["results"]).json()
        assert set(results) == RESULTS_KEYS
        assert results["outputs"] == ["a", None, {"$bytes": "AP8="}, None]
        assert results["errors"] == [{"index": 1, "code": "odd", "message": "the row asked to fail: odd"}]

    def test_a_wait_that_is_over_returns_the_job_as_it_is(self, api: httpx.Client) -> None:
        job = submit(api, 1)
        assert api.get(job["links"]["self"], params={"wait": 0.05}).json()["state"] == "queued"

    def test_results_of_an_unfinished_job_are_a_conflict(self, api: httpx.Client) -> None:
        job = submit(api, 1)
        document = problem(api.get(job["links"]["results"]), 409, "not_finished")
        assert (document["job_id"], document["state"]) == (job["id"], "queued")
        assert "?wait=30" in document["detail"]

    @pytest.mark.usefixtures("worker")
    def test_results_can_be_waited_for(self, api: httpx.Client) -> None:
        job = submit(api, 1)
        assert api.get(job["links"]["results"], params={"wait": 30}).json()["outputs"] == [1]

    def test_a_key_makes_a_request_safe_to_repeat(self, api: httpx.Client) -> None:
        body = {"model": "echo", "inputs": [1]}
        first, again = (api.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2))
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json() == again.json()
        other = api.post("/v1/jobs", json={**body, "inputs": [2]}, headers={"Idempotency-Key": "k"})
        assert problem(other, 409, "idempotency_conflict")["job_id"] == first.json()["id"]

    def test_a_job_is_cancelled(self, api: httpx.Client) -> None:
        job = submit(api, 1)
        cancelled = api.post(job["links"]["cancel"])
        assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
        assert api.get(job["links"]["results"]).json()["errors"][0]["code"] == "cancelled"

    @pytest.mark.usefixtures("worker")
    def test_a_finished_job_cannot_be_cancelled(self, api: httpx.Client) -> None:
        job = submit(api, 1)
        api.get(job["links"]["self"], params={"wait": 30})
        assert problem(api.post(job["links"]["cancel"]), 409, "already_finished")["state"] == "succeeded"

    @pytest.mark.usefixtures("worker")
    def test_an_item_reads_as_a_job_of_one_row(self, api: httpx.Client) -> None:
        job = submit(api, "a", {"fail": "odd"})
        item = api.get(f"/v1/jobs/{job['id']}.1", params={"wait": 30}).json()
        assert set(item) == JOB_KEYS
        assert (item["state"], item["rows"]) == ("failed", {"total": 1, "succeeded": 0, "failed": 1})
        assert item["error"] == {"code": "odd", "message": "the row asked to fail: odd"}
        assert item["links"]["job"] == job["links"]["self"]
        results = api.get(item["links"]["results"]).json()
        assert results == {
            "id": item["id"],
            "outputs": [None],
            "errors": [{"index": 0, "code": "odd", "message": "the row asked to fail: odd"}],
        }

    def test_an_item_cannot_be_cancelled(self, api: httpx.Client) -> None:
        job = submit(api, 1)
        refusal = problem(api.post(f"/v1/jobs/{job['id']}.0/cancel"), 409, "item_not_cancellable")
        assert refusal["job_id"] == job["id"]

    def test_what_is_unknown_is_not_found(self, api: httpx.Client) -> None:
        beyond = f"{submit(api, 1)['id']}.1"
        for id in (str(new_id()), f"{new_id()}.3", beyond):
            problem(api.get(f"/v1/jobs/{id}"), 404, "unknown_job")
            problem(api.get(f"/v1/jobs/{id}/results"), 404, "unknown_job")
            problem(api.post(f"/v1/jobs/{id}/cancel"), 404, "unknown_job")

    def test_what_is_no_id_is_refused(self, api: httpx.Client) -> None:
        for id in ("7", "%00", "..%2f..", "a" * 5000, f"{UUID(int=1)}.x"):
            assert api.get(f"/v1/jobs/{id}").status_code in (404, 422)


class TestList:
    def test_pages_hold_the_newest_first_and_join_without_a_gap(self, api: httpx.Client) -> None:
        ids = [submit(api, number)["id"] for number in range(5)]
        seen: list[str] = []
        params: dict[str, Any] = {"limit": 2}
        while True:
            page = api.get("/v1/jobs", params=params).json()
            seen += [job["id"] for job in page["jobs"]]
            if page["next_cursor"] is None:
                break
            params["cursor"] = page["next_cursor"]
        assert seen == ids[::-1]

    def test_jobs_are_found_by_state_and_model(self, api: httpx.Client) -> None:
        queued, cancelled, other = submit(api, 1), submit(api, 2), submit(api, 3, model="negate")
        api.post(cancelled["links"]["cancel"])

        def found(**params: str) -> list[str]:
            return [job["id"] for job in api.get("/v1/jobs", params=params).json()["jobs"]]

        assert found(state="queued") == [other["id"], queued["id"]]
        assert found(state="cancelled") == [cancelled["id"]]
        assert found(model="negate") == [other["id"]]
        assert found(model="none") == []

    @pytest.mark.usefixtures("worker")
    def test_several_jobs_are_asked_about_at_once(self, api: httpx.Client) -> None:
        ids = [submit(api, number)["id"] for number in range(3)]
        asked: dict[str, Any] = {"ids": ",".join([*ids, str(new_id())]), "wait": 30}
        states = {job["id"]: job["state"] for job in api.get("/v1/jobs", params=asked).json()["jobs"]}
        assert set(states) == set(ids)
        assert "succeeded" in states.values()

    def test_bad_parameters_are_refused_by_name(self, api: httpx.Client) -> None:
        for name, value in BAD_PARAMETERS:
            refusal = problem(api.get("/v1/jobs", params={name: value}), 422, "invalid_input")
            assert refusal.get("field", "ids") == name


class TestBadBodies:
    def test_a_bad_body_is_refused_with_its_place(self, api: httpx.Client) -> None:
        for body, status, code, says in BAD_BODIES:
            answer = api.post("/v1/jobs", content=body, headers=JSON)
            assert says in problem(answer, status, code)["detail"]

    def test_a_bad_field_is_named(self, api: httpx.Client) -> None:
        for field, value in BAD_FIELDS:
            answer = api.post("/v1/jobs", json={"model": "echo", "inputs": [1], field: value})
            assert problem(answer, 422, "invalid_input")["field"] == field

    def test_a_misspelt_field_is_told_the_right_spelling(self, api: httpx.Client) -> None:
        answer = api.post("/v1/jobs", json={"model": "echo", "input": [1]})
        refusal = problem(answer, 422, "invalid_input")
        assert "did you mean 'inputs'?" in refusal["detail"]
        assert {error["field"] for error in refusal["errors"]} == {"input", "inputs"}

    def test_a_body_beyond_the_limit_is_refused_by_its_length(self, api: httpx.Client) -> None:
        answer = api.post("/v1/jobs", json={"model": "echo", "inputs": ["x" * MAX_BODY_BYTES]})
        assert "in several jobs" in problem(answer, 413, "too_large")["detail"]

    def test_a_body_of_unknown_length_is_refused_while_it_streams(self, api: httpx.Client) -> None:
        chunks = (b"x" * 1024 for _ in range(5))
        problem(api.post("/v1/jobs", content=chunks, headers=JSON), 413, "too_large")

    def test_a_body_that_a_web_page_could_send_is_refused(self, api: httpx.Client) -> None:
        for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
            answer = api.post("/v1/jobs", content=b"{}", headers={"Content-Type": kind})
            assert "application/json" in problem(answer, 415, "unsupported_media_type")["detail"]

    @pytest.mark.parametrize("key", ["", "k" * 256])
    def test_a_bad_idempotency_key_is_refused(self, api: httpx.Client, key: str) -> None:
        body = {"model": "echo", "inputs": [1]}
        problem(api.post("/v1/jobs", json=body, headers={"Idempotency-Key": key}), 422, "invalid_input")


class TestFleet:
    def test_models_are_listed_with_their_versions(self, api: httpx.Client) -> None:
        assert [model["name"] for model in api.get("/v1/models").json()["models"]] == ["echo", "negate"]
        model = api.get("/v1/models/echo").json()
        assert (model["version"], [version["version"] for version in model["versions"]]) == (1, [1])
        problem(api.get("/v1/models/none"), 404, "not_found")

    def test_workers_are_listed_with_what_they_serve(self, api: httpx.Client, worker: FakeWorker) -> None:
        (document,) = api.get("/v1/workers").json()["workers"]
        assert (document["id"], document["live"]) == (str(worker.incarnation), True)
        assert (document["pool"], document["memory_bytes"], document["memory_budget_bytes"]) == (
            "default",
            None,
            None,
        )
        ready = {"model": "echo", "version": 1, "state": "ready", "error": None}
        assert {**ready, "loads": 0, "memory_bytes": None, "at_work": None} in document["serves"]
        assert document["software"] == VERSION

    def test_the_batches_of_a_model_say_why_they_were_closed(
        self, api: httpx.Client, settings: Settings, worker: FakeWorker
    ) -> None:
        told = {"batches": 4, "rows": 12, "full_rows": 16, "reasons": {"full": 3, "idle": 1}}
        told |= {"seconds": {"wait": 2.0, "forward": 1.0}, "sizes": {"4": 2, "2": 2}, "busy": 0.5}
        database = Database(settings.database_url)
        stats = {"echo:1": told, "negate:1": {"batches": 1, "rows": 1}}
        WorkerRegistry(database).beat(worker.incarnation, state="ready", serves=(), stats=stats)
        database.close()
        (version,) = api.get("/v1/models/echo/batches").json()["versions"]
        assert (version["version"], version["workers"], version["fill"]) == (1, 1, 0.75)
        assert (version["queue_s"], version["padding"], version["recent"]) == (0.5, None, [])
        assert version["reasons"] == {"full": 3, "idle": 1}
        problem(api.get("/v1/models/none/batches"), 404, "not_found")
        metrics = api.get("/metrics").text
        labels = 'model="echo",reason="full",version="1",worker="fake@here"'
        assert f"shunter_batches_total{{{labels}}} 3.0" in metrics

    def test_health_and_readiness(self, api: httpx.Client) -> None:
        assert api.get("/healthz").json() == {"status": "ok"}
        assert api.get("/readyz").json() == {"status": "ok", "postgres": "ok", "redis": "ok"}

    def test_metrics_count_requests_by_route_and_queued_jobs(self, api: httpx.Client) -> None:
        job = submit(api, 1)
        api.get(job["links"]["self"])
        api.get("/nowhere")
        text = api.get("/metrics").text
        assert 'shunter_api_requests_total{method="GET",route="/v1/jobs/{id}",status="200"} 1.0' in text
        assert 'shunter_api_requests_total{method="GET",route="none",status="404"} 1.0' in text
        assert 'shunter_queued_jobs{model="echo",priority="standard"} 1.0' in text

    def test_the_documentation_loads_nothing_from_elsewhere(self, api: httpx.Client) -> None:
        page = api.get("/docs").text
        assert "/v1/jobs/{id}/results" in page
        assert "://" not in page

    def test_other_paths_and_methods_are_problems_too(self, api: httpx.Client) -> None:
        problem(api.get("/v2"), 404, "not_found")
        problem(api.get("/v1/jobs/"), 404, "not_found")
        refusal = api.delete("/v1/jobs")
        problem(refusal, 405, "method_not_allowed")
        assert set(refusal.headers["allow"].split(", ")) == {"GET", "POST"}


def test_without_postgres_the_api_is_unavailable_and_alive(settings: Settings) -> None:
    app = create_app(replace(settings, database_url="postgresql://nobody@127.0.0.1:9/none"))
    with serving(app) as url, httpx.Client(base_url=url) as api:
        for answer in (
            api.get("/readyz"),
            api.get("/v1/jobs"),
            api.get(f"/v1/jobs/{new_id()}", params={"wait": 5}),
            api.post("/v1/jobs", json={"model": "echo", "inputs": [1]}),
        ):
            problem(answer, 503, "database_unavailable")
            assert answer.headers["retry-after"] == "1"
        assert api.get("/healthz").status_code == 200
        assert "shunter_api_requests_total" in api.get("/metrics").text


def test_without_redis_jobs_are_accepted_and_run_later(settings: Settings) -> None:
    app = create_app(replace(settings, redis_url="redis://127.0.0.1:9/0"))
    with serving(app) as url, httpx.Client(base_url=url) as api:
        assert submit(api, 1)["state"] == "queued"
        ready = api.get("/readyz")
        assert (ready.status_code, ready.json()["postgres"]) == (200, "ok")
        assert "does not answer" in ready.json()["redis"]


def test_a_database_that_is_not_migrated_is_told_with_the_remedy(
    settings: Settings, empty_database_url: str
) -> None:
    with serving(create_app(replace(settings, database_url=empty_database_url))) as url:
        answer = httpx.get(f"{url}/readyz")
    assert "shunter migrate" in problem(answer, 503, "schema_mismatch")["detail"]


def test_a_key_is_asked_for_under_v1_alone(settings: Settings) -> None:
    with serving(create_app(replace(settings, api_key="secret"))) as url, httpx.Client(base_url=url) as api:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret"}):
            refusal = api.get("/v1/jobs", headers=headers)
            problem(refusal, 401, "unauthorized")
            assert refusal.headers["www-authenticate"] == "Bearer"
        assert api.get("/v1/jobs", headers={"Authorization": "Bearer secret"}).status_code == 200
        assert api.get("/healthz").status_code == 200


def test_many_long_polls_leave_the_api_free(app: FastAPI, url: str, settings: Settings) -> None:
    async def poll(client: httpx.AsyncClient, path: str) -> str:
        return str((await client.get(path, params={"wait": 60})).json()["state"])

    async def main() -> list[str]:
        limits = httpx.Limits(max_connections=POLLS + 1)
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
            bodies = ({"model": "echo", "inputs": [number]} for number in range(POLLS))
            jobs = [(await client.post("/v1/jobs", json=body)).json() for body in bodies]
            polls = [asyncio.create_task(poll(client, job["links"]["self"])) for job in jobs]
            await asyncio.to_thread(wait_until, lambda: len(app.state.context.polls) == POLLS)
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.get("/readyz")).status_code == 200
            assert len(app.state.context.polls) == POLLS
            with FakeWorker(settings):
                return await asyncio.gather(*polls)

    assert asyncio.run(main()) == ["succeeded"] * POLLS


def test_what_does_not_fit_into_memory_with_the_others_is_to_be_tried_again(settings: Settings) -> None:
    app = create_app(settings, max_bodies_bytes=200)
    with serving(app) as url, httpx.Client(base_url=url) as api:
        refused = api.post("/v1/jobs", json={"model": "echo", "inputs": ["x" * 300]})
        assert "try again" in problem(refused, 503, "overloaded")["detail"]
        assert refused.headers["Retry-After"] == "1"
        assert api.post("/v1/jobs", json={"model": "echo", "inputs": ["x"]}).status_code == 202
        assert app.state.context.bodies.taken == 0


def test_a_server_that_stops_lets_go_of_those_that_wait(app: FastAPI, settings: Settings) -> None:
    async def main(url: str) -> str:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            job = (await client.post("/v1/jobs", json={"model": "echo", "inputs": [1]})).json()
            waiting = asyncio.create_task(client.get(job["links"]["self"], params={"wait": 60}))
            await asyncio.to_thread(wait_until, lambda: len(app.state.context.polls) == 1)
            app.state.context.polls.release()
            return str((await waiting).json()["state"])

    with serving(app) as url:
        assert asyncio.run(main(url)) == "queued"
