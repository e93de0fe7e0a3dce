"""The public JSON documents of jobs and results, written and read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shunter.producers.outputs import JobResults
from shunter.producers.status import JobStatus, RowCounts
from shunter.producers.waiting import Waiting
from shunter.storage.ids import parse_item_id
from shunter.storage.job import JobState
from shunter.storage.outcome import RowFailure
from shunter.storage.payload import from_json, to_json

NOT_FINITE = RowFailure(
    0,
    "not_finite",
    "the output holds a NaN or an infinity, which JSON cannot say: read it with the Python client, directly",
)


def job_document(status: JobStatus) -> dict[str, Any]:
    """The job document of a job or an item."""
    return {
        "id": status.id,
        "model": status.model,
        "version": status.version,
        "state": status.state.value,
        "priority": status.priority,
        "rows": {
            "total": status.rows.total,
            "succeeded": status.rows.succeeded,
            "failed": status.rows.failed,
        },
        "attempts": status.attempts,
        "waiting": None if status.waiting is None else status.waiting.document(),
        "created_at": status.created_at.isoformat(),
        "started_at": _text(status.started_at),
        "finished_at": _text(status.finished_at),
        "error": status.error,
        "metadata": status.metadata,
        "links": links(status.id),
    }


def read_job_document(document: Mapping[str, Any]) -> JobStatus:
    """The status that a job document tells of."""
    waiting = document["waiting"]
    return JobStatus(
        id=document["id"],
        model=document["model"],
        version=document["version"],
        state=JobState(document["state"]),
        priority=document["priority"],
        rows=RowCounts(**document["rows"]),
        attempts=document["attempts"],
        waiting=None if waiting is None else Waiting(**waiting),
        created_at=datetime.fromisoformat(document["created_at"]),
        started_at=_time(document["started_at"]),
        finished_at=_time(document["finished_at"]),
        error=document["error"],
        metadata=document["metadata"],
    )


def links(id: str) -> dict[str, str]:
    """Where to go on from a job or an item."""
    job_id, index = parse_item_id(id)
    own, job = f"/v1/jobs/{id}", f"/v1/jobs/{job_id}"
    onward = {"cancel": f"{job}/cancel"} if index is None else {"job": job}
    return {"self": own, "results": f"{own}/results", **onward}


def results_document(results: JobResults) -> dict[str, Any]:
    """The results document of a finished job or item; an output that JSON cannot say becomes a row error."""
    outputs: list[object] = []
    failures = {failure.index: failure for failure in results.failures}
    for index, output in enumerate(results.outputs):
        try:
            outputs.append(to_json(output))
        except ValueError:
            outputs.append(None)
            failures[index] = RowFailure(index, NOT_FINITE.code, NOT_FINITE.message)
    errors = [failures[index].document() for index in sorted(failures)]
    return {"id": results.id, "outputs": outputs, "errors": errors}


def read_results_document(
    document: Mapping[str, Any], state: JobState, *, encoded_bytes: int = 0
) -> JobResults:
    """The results that a results document tells of; the state stands in the job's own document."""
    values = document["outputs"]
    return JobResults(
        id=document["id"],
        state=state,
        outputs=[from_json(value, where=f"outputs[{index}]") for index, value in enumerate(values)],
        failures=tuple(RowFailure(**error) for error in document["errors"]),
        encoded_bytes=encoded_bytes,
    )


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
