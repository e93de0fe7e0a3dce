"""Jobs through the HTTP API, for producers that reach neither Postgres nor Redis."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
import orjson

from shunter.producers.cache import FinishedCache
from shunter.producers.documents import read_job_document, read_results_document
from shunter.producers.http_watch import HttpWatch
from shunter.producers.outputs import JobResults
from shunter.producers.problems import MEDIA_TYPE, error_of
from shunter.producers.rows import as_rows, each_job, packed_rows
from shunter.producers.schedules.request import Schedules
from shunter.producers.schedules.through_http import HttpSchedules
from shunter.producers.scoring.request import Scorings
from shunter.producers.scoring.through_http import HttpScorings
from shunter.producers.status import JobStatus
from shunter.producers.submission import Accepted, Options, check_model_name
from shunter.producers.timeline import Event
from shunter.storage.errors import (
    AlreadyFinished,
    ApiUnavailable,
    InvalidInput,
    NotFound,
    ShunterError,
    Unavailable,
    UnknownJob,
    UnknownModel,
)
from shunter.storage.job import JobState
from shunter.storage.payload import decode_rows, encode_rows, to_json
from shunter.storage.settings import redact

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 90.0
"""Longer than any ?wait= that the API grants."""

STATUSES = 4096
RESULTS_BYTES = 64 * 2**20
"""What is kept of finished jobs, by number and by size, so that items of one job ask once."""


class HttpBackend:
    """Satisfies Backend by requests to the API."""

    def __init__(self, url: str, *, api_key: str = "") -> None:
        self._url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=self._url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        )
        self._statuses: FinishedCache[JobStatus] = FinishedCache(STATUSES)
        self._results: FinishedCache[JobResults] = FinishedCache(RESULTS_BYTES, size=attrgetter("size"))

    def submit(self, model: str, rows: object, options: Options) -> Accepted:
        return self._post(model, as_rows(rows), options)

    def submit_many(self, model: str, rows: object, options: Options) -> Sequence[Accepted]:
        options.refuse_key("submit_many")
        values = as_rows(rows)
        size = packed_rows(len(values), self._max_rows(model, options.version))
        return self._post_all(
            model, [values[start : start + size] for start in range(0, len(values), size)], options
        )

    def submit_jobs(self, model: str, jobs: object, options: Options) -> Sequence[Accepted]:
        options.refuse_key("submit_jobs")
        return self._post_all(model, each_job(jobs), options)

    def status(self, id: UUID) -> JobStatus:
        known = self._statuses.get(id)
        return known if known is not None else self._read(self.request("GET", f"/v1/jobs/{id}"))

    def timeline(self, id: UUID) -> Sequence[Event]:
        answer = self.request("GET", f"/v1/jobs/{id}/timeline")
        return [Event.from_document(document) for document in answer["events"]]

    def ended(self, id: UUID) -> bool:
        return self._statuses.get(id) is not None

    def watch(self) -> HttpWatch:
        return HttpWatch(self.states)

    def states(self, ids: Sequence[UUID], wait_s: float) -> Mapping[UUID, JobState]:
        """The states of those of these jobs that exist; waits a while for one of them to end."""
        params = {"ids": ",".join(map(str, ids)), "wait": wait_s}
        answer = self.request("GET", "/v1/jobs", params=params)
        statuses = [self._read(document) for document in answer["jobs"]]
        return {UUID(status.id): status.state for status in statuses}

    def results(self, id: UUID) -> JobResults:
        known = self._results.get(id)
        if known is None:
            known = self._load(id)
            self._results.put(id, known)
        return known

    def results_of(self, ids: Collection[UUID]) -> Mapping[UUID, JobResults]:
        found: dict[UUID, JobResults] = {}
        for id in ids:
            with suppress(UnknownJob):
                found[id] = self._load(id)
        return found

    def cancel(self, id: UUID) -> JobStatus:
        return self._read(self.request("POST", f"/v1/jobs/{id}/cancel"))

    def redrive(self, id: UUID, *, version: int | None = None, again: bool = False) -> Accepted:
        params = {"again": "true"} if again else {}
        if version is not None:
            params["version"] = str(version)
        status = self._read(self.request("POST", f"/v1/jobs/{id}/redrive", params=params))
        return Accepted(UUID(status.id), status.model, status.version, status.rows.total)

    @property
    def scorings(self) -> Scorings:
        return HttpScorings(self.request, self.page)

    @property
    def schedules(self) -> Schedules:
        return HttpSchedules(self.request)

    def close(self) -> None:
        self._http.close()

    def request(self, method: str, path: str, **options: Any) -> Any:
        """The JSON that the API answers; raises the error that it tells of."""
        return orjson.loads(self._send(method, path, **options))

    def page(self, path: str) -> str:
        """The HTML page that the API answers; raises the error that it tells of."""
        return self._send("GET", path, kind="text/html; charset=utf-8").decode()

    def _send(self, method: str, path: str, *, kind: str = "application/json", **options: Any) -> bytes:
        try:
            answer = self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise ApiUnavailable(f"the API at {redact(self._url)} does not answer: {error}") from error
        found = answer.headers.get("content-type", "")
        if answer.is_success and found == kind:
            return answer.content
        if found == MEDIA_TYPE:
            raise error_of(orjson.loads(answer.content), answer.status_code)
        raise ApiUnavailable(
            f"{redact(self._url)} answered {answer.status_code} without a document of Shunter: "
            "check that the URL is that of its API"
        )

    def _post(self, model: str, rows: Sequence[object], options: Options) -> Accepted:
        body = {
            "model": model,
            "inputs": _json_rows(rows),
            "version": options.version,
            "priority": options.priority,
            "deadline_s": options.deadline_s,
            "metadata": None if options.metadata is None else dict(options.metadata),
        }
        headers = {"Content-Type": b"application/json"}
        if options.idempotency_key is not None:
            headers["Idempotency-Key"] = options.idempotency_key.encode()
        status = self._read(self.request("POST", "/v1/jobs", content=orjson.dumps(body), headers=headers))
        return Accepted(UUID(status.id), status.model, status.version, status.rows.total)

    def _max_rows(self, model: str, version: int | None) -> int:
        path = f"/v1/models/{quote(check_model_name(model), safe='')}"
        try:
            document = self.request("GET", path)
        except NotFound as error:
            raise UnknownModel(error.message, field="model") from error
        served = {entry["version"]: entry for entry in document["versions"]}
        entry = served.get(document["version"] if version is None else version)
        # An unknown version is for the submission itself to refuse.
        return 1 if entry is None else int(entry["batching"]["max_rows"])

    def _read(self, document: Mapping[str, Any]) -> JobStatus:
        status = read_job_document(document)
        if status.done:
            self._statuses.put(UUID(status.id), status)
        return status

    def _load(self, id: UUID) -> JobResults:
        content = self._send("GET", f"/v1/jobs/{id}/results")
        return read_results_document(orjson.loads(content), self.status(id).state, encoded_bytes=len(content))

    def _post_all(self, model: str, jobs: Sequence[Sequence[object]], options: Options) -> Sequence[Accepted]:
        """Submit jobs one after the other; if one is refused, none is left to run."""
        accepted: list[Accepted] = []
        try:
            for rows in jobs:
                accepted.append(self._post(model, rows, options))
        except ShunterError:
            self._cancel_all(accepted)
            raise
        return accepted

    def _cancel_all(self, accepted: Sequence[Accepted]) -> None:
        for job in accepted:
            with suppress(AlreadyFinished, UnknownJob, Unavailable):
                self.cancel(job.id)


def _json_rows(rows: Sequence[object]) -> list[object]:
    """Rows as JSON values, refused and normalised just as in a direct submission."""
    values = []
    for index, row in enumerate(decode_rows(encode_rows(rows))):
        try:
            values.append(to_json(row))
        except ValueError as error:
            raise InvalidInput(
                f"rows[{index}]: {error}: send None in its place, or submit directly, without a URL",
                field=f"rows[{index}]",
            ) from error
    return values
