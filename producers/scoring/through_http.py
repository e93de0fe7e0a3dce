"""Scorings through the HTTP API."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

from shunter.producers.scoring.estimate import Estimate
from shunter.producers.scoring.request import ScoringStatus, read_scoring_document
from shunter.storage.errors import InvalidInput
from shunter.storage.scoring.request import ScoringRequest


class HttpScorings:
    """Satisfies Scorings by requests to the API, whose host must reach the places that they name."""

    def __init__(self, request: Callable[..., Any], text: Callable[[str], str]) -> None:
        self._request = request
        self._text = text

    def stage(self, rows: object) -> str:
        raise InvalidInput(
            "rows from Python or a query are staged in the object store: use a client without a URL",
            field="input",
        )

    def create(self, request: ScoringRequest) -> ScoringStatus:
        return read_scoring_document(self._request("POST", "/v1/scorings", json=asdict(request)))

    def retry_errors(self, id: UUID, *, output: str | None, version: int | None) -> ScoringStatus:
        body = {"output": output, "version": version}
        return read_scoring_document(self._request("POST", f"/v1/scorings/{id}/retry-errors", json=body))

    def estimate(self, request: ScoringRequest) -> Estimate:
        return Estimate(**self._request("POST", "/v1/scorings/estimate", json=asdict(request)))

    def get(self, id: UUID) -> ScoringStatus:
        return read_scoring_document(self._request("GET", f"/v1/scorings/{id}"))

    def find(self, *, before: UUID | None = None, limit: int = 50) -> Sequence[ScoringStatus]:
        params = {"limit": limit, **({} if before is None else {"cursor": str(before)})}
        answer = self._request("GET", "/v1/scorings", params=params)
        return [read_scoring_document(document) for document in answer["scorings"]]

    def report(self, id: UUID) -> Mapping[str, Any]:
        document: Mapping[str, Any] = self._request("GET", f"/v1/scorings/{id}/report")
        return document

    def report_page(self, id: UUID) -> str:
        return self._text(f"/v1/scorings/{id}/report.html")

    def cancel(self, id: UUID) -> ScoringStatus:
        return read_scoring_document(self._request("POST", f"/v1/scorings/{id}/cancel"))
