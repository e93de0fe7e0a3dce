"""What a plain Celery producer sends: `send_task("shunter.submit", kwargs={"model": …, "rows": […]}, …)`.

The Celery task id becomes the job's id, so that a redelivered message is the same job. What Shunter does not
do for a Celery task (callbacks, chains, groups, other serializers) is refused, never ignored.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from shunter.storage.envelope import Envelope, TaskMessage, priority_of, queue_name, queue_of
from shunter.storage.errors import EnvelopeError, InvalidInput
from shunter.storage.ids import read_uuid
from shunter.storage.job import Priority
from shunter.storage.metadata import check_metadata
from shunter.storage.payload import from_json

TASK_NAME = "shunter.submit"

NAMESPACE = UUID("6d3f0f4e-8f4e-5d0c-9a55-5a1b6c1f7a11")
"""Job ids of Celery tasks whose id is no UUID are uuid5 within this."""

_KNOWN = {"model", "rows", "version", "metadata"}

EPOCH_YEAR, LAST_YEAR = 1969, 9000
"""An eta or expiry beyond these is a mistake, and Python could not read it again in every time zone."""


class Submission(NamedTuple):
    """Rows that a plain Celery producer wants run as one job."""

    id: UUID
    model: str
    rows: list[object]
    version: int | None
    metadata: dict[str, Any] | None
    priority: Priority
    not_before: datetime | None
    deadline: datetime | None
    list_key: str
    raw: bytes

    def envelope(self) -> Envelope:
        """How Flower shows it: an envelope of one job, under the task's own id."""
        return Envelope(
            id=self.id,
            ids=(self.id,),
            model=self.model,
            version=self.version or 0,
            rows=len(self.rows),
            priority=self.priority,
        )


def job_id(task_id: str) -> UUID:
    """The job id of a Celery task id."""
    try:
        return read_uuid(task_id)
    except ValueError:
        return uuid.uuid5(NAMESPACE, task_id)


def read_submission(message: TaskMessage, list_key: str, raw: bytes) -> Submission:
    """Read a message that came on `list_key` as `raw`; EnvelopeError says what cannot be adopted, and why."""
    _refuse_workflows(message)
    task_id = message.headers.get("id")
    if not isinstance(task_id, str) or not task_id:
        raise EnvelopeError("the message has no task id: send it with Celery's send_task")
    kwargs = message.kwargs
    unknown = set(kwargs) - _KNOWN
    if message.args or unknown:
        what = f"unknown arguments {', '.join(sorted(unknown))}" if unknown else "positional arguments"
        raise EnvelopeError(
            f"{TASK_NAME} takes the keyword arguments {', '.join(sorted(_KNOWN))}, not {what}"
        )
    model, rows = kwargs.get("model"), kwargs.get("rows")
    if not isinstance(model, str) or queue_name(model) != queue_of(list_key):
        raise EnvelopeError(f"model is {model!r} on the queue {queue_of(list_key)}: send it to infer.<model>")
    if not isinstance(rows, list) or not rows:
        what = "empty" if rows == [] else f"a {type(rows).__name__}"
        raise EnvelopeError(f"rows is {what}: it must be a list of at least one row")
    return Submission(
        id=job_id(task_id),
        model=model,
        rows=_values(rows),
        version=_whole(kwargs.get("version")),
        metadata=_metadata(kwargs.get("metadata")),
        priority=priority_of(list_key),
        not_before=_moment(message.headers.get("eta"), "eta"),
        deadline=_moment(message.headers.get("expires"), "expires"),
        list_key=list_key,
        raw=raw,
    )


def _refuse_workflows(message: TaskMessage) -> None:
    used = [name for name in ("callbacks", "errbacks", "chain", "chord") if message.embed.get(name)]
    if message.headers.get("group"):
        used.append("group")
    if used:
        raise EnvelopeError(
            f"the task has {', '.join(used)}: Shunter runs no workflows, poll the job instead"
        )


def _values(rows: list[object]) -> list[object]:
    try:
        return [from_json(row, where=f"rows[{index}]") for index, row in enumerate(rows)]
    except InvalidInput as error:
        raise EnvelopeError(error.message) from error


def _whole(version: Any) -> int | None:
    if version is None or (type(version) is int and version > 0):
        return version
    raise EnvelopeError(f"version is {version!r}: versions are positive integers")


def _metadata(metadata: Any) -> dict[str, Any] | None:
    if metadata is not None and not isinstance(metadata, dict):
        raise EnvelopeError(f"metadata is {type(metadata).__name__}: it must be an object")
    try:
        check_metadata(metadata)
    except InvalidInput as error:
        raise EnvelopeError(error.message) from error
    return metadata


def _moment(text: Any, name: str) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise EnvelopeError(f"{name} is {text!r:.60}: it must be an ISO 8601 time") from error
    if not EPOCH_YEAR < moment.year < LAST_YEAR:
        raise EnvelopeError(f"{name} is {text!r:.60}: it must be a time of these centuries")
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
