"""What a client may do with scorings, and what is answered about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

from shunter.producers.scoring.estimate import Estimate
from shunter.storage.scoring.request import ScoringRequest
from shunter.storage.scoring.spec import Scoring, ScoringState


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringStatus:
    """Where a scoring stands; `rows.total` is None while files of unknown length are being planned.

    `rows_per_s` is since it began, `eta_s` the seconds left at that rate; None if nobody can say.
    `drifted` is None until its report is there, and if that had nothing to compare with.
    """

    id: str
    state: ScoringState
    model: str
    version: int
    input: str
    output: str
    total: int | None
    succeeded: int
    failed: int
    chunks: int
    rows_per_s: float
    eta_s: float | None
    error: Mapping[str, Any] | None
    created_at: datetime
    finished_at: datetime | None
    drifted: bool | None

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.state.done


class Scorings(Protocol):
    """Scorings as a client sees them, direct or through the API. Every call may raise Unavailable."""

    def stage(self, rows: object) -> str:
        """Keep rows from Python where the fleet can read them; returns their place."""

    def create(self, request: ScoringRequest) -> ScoringStatus:
        """Begin a scoring, or find the one that answers the same question already."""

    def retry_errors(self, id: UUID, *, output: str | None, version: int | None) -> ScoringStatus:
        """Begin a scoring of the rows that failed in an earlier one."""

    def estimate(self, request: ScoringRequest) -> Estimate:
        """What a scoring would cost; stores nothing."""

    def get(self, id: UUID) -> ScoringStatus:
        """Where one stands; UnknownScoring."""

    def find(self, *, before: UUID | None = None, limit: int = 50) -> Sequence[ScoringStatus]:
        """The newest first."""

    def cancel(self, id: UUID) -> ScoringStatus:
        """Cancel one; UnknownScoring, AlreadyFinished."""

    def report(self, id: UUID) -> Mapping[str, Any]:
        """The report of a complete one, as JSON; UnknownScoring, ReportPending, NoReport."""

    def report_page(self, id: UUID) -> str:
        """The same as an HTML page that needs nothing else."""


def scoring_status(scoring: Scoring, *, now: datetime | None = None) -> ScoringStatus:
    """A stored scoring as users see it."""
    until = scoring.finished_at or now or datetime.now(UTC)
    elapsed_s = max(1e-3, (until - scoring.created_at).total_seconds())
    rate = scoring.rows_done / elapsed_s
    left = None if scoring.total_rows is None else scoring.total_rows - scoring.rows_done
    return ScoringStatus(
        id=str(scoring.id),
        state=scoring.state,
        model=scoring.spec.model,
        version=scoring.spec.version,
        input=scoring.spec.input,
        output=scoring.spec.table or scoring.spec.output,
        total=scoring.total_rows,
        succeeded=scoring.rows_succeeded,
        failed=scoring.rows_failed,
        chunks=scoring.chunks,
        rows_per_s=round(rate, 1),
        eta_s=round(left / rate, 1) if left is not None and rate and not scoring.state.done else None,
        error=scoring.error,
        created_at=scoring.created_at,
        finished_at=scoring.finished_at,
        drifted=scoring.drifted,
    )


def scoring_document(status: ScoringStatus) -> dict[str, Any]:
    """The JSON form of a status."""
    here = f"/v1/scorings/{status.id}"
    return {
        "id": status.id,
        "model": status.model,
        "version": status.version,
        "state": status.state.value,
        "input": status.input,
        "output": status.output,
        "rows": {"total": status.total, "succeeded": status.succeeded, "failed": status.failed},
        "chunks": status.chunks,
        "rows_per_s": status.rows_per_s,
        "eta_s": status.eta_s,
        "error": status.error,
        "created_at": status.created_at.isoformat(),
        "finished_at": None if status.finished_at is None else status.finished_at.isoformat(),
        "drifted": status.drifted,
        "links": {"self": here, "cancel": f"{here}/cancel", "report": f"{here}/report"},
    }


def read_scoring_document(document: Mapping[str, Any]) -> ScoringStatus:
    """Read what `scoring_document` made."""
    rows, finished = document["rows"], document["finished_at"]
    plain = ("id", "model", "version", "input", "output", "chunks", "rows_per_s", "eta_s", "error", "drifted")
    return ScoringStatus(
        **{name: document[name] for name in plain},
        **rows,
        state=ScoringState(document["state"]),
        created_at=datetime.fromisoformat(document["created_at"]),
        finished_at=None if finished is None else datetime.fromisoformat(finished),
    )
