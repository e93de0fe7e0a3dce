"""The queue contract: what travels through Redis, as one Celery message, and how it is read again.

An envelope is a hint that some jobs are due. It carries their ids and what people want to see in
Flower, never a payload; the rows in Postgres are the truth. Readers need only `ids` and ignore keys
they do not know, so that old and new versions run side by side.

Wire: kombu's Redis message, a JSON object whose `body` is base64 of Celery's protocol 2 body
`[args, kwargs, embed]`. https://docs.celeryq.dev/en/stable/internals/protocol.html
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import orjson
import pybase64

from shunter.storage.errors import EnvelopeError
from shunter.storage.ids import read_uuid
from shunter.storage.job import Priority

TASK_NAME = "shunter.run"
"""The Celery task name of every envelope that Shunter publishes."""

QUEUE_PREFIX = "infer."
SEPARATOR = "\x06\x16"
"""kombu's separator between a queue's name and its priority step."""

STEPS: Mapping[Priority, int] = {Priority.STANDARD: 0, Priority.INTERACTIVE: 3, Priority.BULK: 6}
"""kombu's priority step of each class. Step 0 is where a plain Celery producer's message lands."""

_BY_STEP = {"": Priority.STANDARD, **{str(step): priority for priority, step in STEPS.items()}}

PRIORITY_STEPS = (3, 0, 6, 9)
"""The order in which a consumer looks at the steps; 9 may hold a plain producer's message."""

MAX_ROWS = 256
"""Rows' worth of jobs in one envelope; a bigger job travels alone."""


LATEST = 253_402_300_800.0
"""The year 10000: no Python datetime holds a later `enqueued_at`."""


def queue_name(model: str) -> str:
    """The Celery queue of a model."""
    return QUEUE_PREFIX + model


def list_key(queue: str, priority: Priority) -> str:
    """The Redis list that holds a queue's envelopes of one priority."""
    step = STEPS[priority]
    return f"{queue}{SEPARATOR}{step}" if step else queue


def queue_of(key: str) -> str:
    """The queue that a Redis list belongs to."""
    return key.partition(SEPARATOR)[0]


def priority_of(key: str) -> Priority:
    """The class of what lies on a Redis list; steps that are not ours are served last."""
    return _BY_STEP.get(key.partition(SEPARATOR)[2], Priority.BULK)


class Envelope(NamedTuple):
    """Some jobs of one model version and priority that are due, `enqueued_at` seconds of Postgres time."""

    id: UUID
    ids: tuple[UUID, ...]
    model: str = ""
    version: int = 0
    rows: int = 0
    priority: Priority = Priority.STANDARD
    enqueued_at: float | None = None

    @property
    def list_key(self) -> str:
        """The Redis list it belongs to."""
        return list_key(queue_name(self.model), self.priority)

    @property
    def title(self) -> str:
        """What Flower shows as its arguments."""
        jobs = "1 job" if len(self.ids) == 1 else f"{len(self.ids)} jobs"
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        return f"{self.model} v{self.version}: {jobs}, {rows}"

    @property
    def span(self) -> str:
        """The first and last job id, so that Flower's search finds them."""
        return f"first={self.ids[0]}, last={self.ids[-1]}"


class NeedsEnvelope(Protocol):
    """What an envelope says of a job."""

    @property
    def id(self) -> UUID: ...
    @property
    def model(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def priority(self) -> Priority: ...


@dataclass(frozen=True, slots=True)
class Due:
    """A stored job that needs an envelope."""

    id: UUID
    model: str
    version: int
    rows: int
    priority: Priority


_KIND = attrgetter("model", "version", "priority")


def pack(jobs: Sequence[NeedsEnvelope], enqueued_at: float) -> Iterator[Envelope]:
    """Group due jobs into envelopes of at most MAX_ROWS rows, keeping their order within a list."""
    groups: dict[tuple[str, int, Priority], _Group] = {}
    last, group = None, _Group()
    for job in jobs:
        key = _KIND(job)
        # Most bunches are all of one kind, and the hash of an Enum is Python code.
        if key != last:
            last, group = key, groups.setdefault(key, _Group())
        if group.jobs and group.rows + job.rows > MAX_ROWS:
            yield _envelope(group, enqueued_at)
            group.jobs, group.rows = [], 0
        group.jobs.append(job)
        group.rows += job.rows
    yield from (_envelope(group, enqueued_at) for group in groups.values())


@dataclass(slots=True)
class _Group:
    """Jobs of one kind that are to share an envelope."""

    jobs: list[NeedsEnvelope] = field(default_factory=list)
    rows: int = 0


def _envelope(group: _Group, enqueued_at: float) -> Envelope:
    first = group.jobs[0]
    return Envelope(
        # A lone job lends its id, so that Flower's task page answers to it.
        id=first.id if len(group.jobs) == 1 else uuid.uuid4(),
        ids=tuple([job.id for job in group.jobs]),
        model=first.model,
        version=first.version,
        rows=group.rows,
        priority=first.priority,
        enqueued_at=enqueued_at,
    )


def encode(envelope: Envelope) -> bytes:
    """The raw bytes to LPUSH."""
    kwargs = {
        "ids": envelope.ids,
        "model": envelope.model,
        "version": envelope.version,
        "rows": envelope.rows,
        "priority": envelope.priority.label,
        "enqueued_at": envelope.enqueued_at,
    }
    task_id = str(envelope.id)
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return orjson.dumps(
        {
            "body": pybase64.b64encode(orjson.dumps([[], kwargs, embed])).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                "lang": "py",
                "task": TASK_NAME,
                "id": task_id,
                "root_id": task_id,
                "parent_id": None,
                "group": None,
                "retries": 0,
                "eta": None,
                "expires": None,
                "timelimit": [None, None],
                "argsrepr": f"({envelope.title!r},)",
                "kwargsrepr": envelope.span,
                "origin": f"shunter@{os.getpid()}",
                "ignore_result": True,
            },
            "properties": {
                "correlation_id": task_id,
                "reply_to": "",
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue_name(envelope.model)},
                "priority": STEPS[envelope.priority],
                "body_encoding": "base64",
                # Unique per delivery: kombu keys its records by it.
                "delivery_tag": os.urandom(16).hex(),
            },
        }
    )


def by_list(envelopes: Iterable[Envelope]) -> dict[str, list[bytes]]:
    """The raw bytes of each Redis list, in order: what to LPUSH."""
    lists: dict[str, list[bytes]] = {}
    for envelope in envelopes:
        lists.setdefault(envelope.list_key, []).append(encode(envelope))
    return lists


class TaskMessage(NamedTuple):
    """A Celery protocol 2 message, taken apart: whoever sent it, and whatever it asks for."""

    headers: dict[str, Any]
    args: list[Any]
    kwargs: dict[str, Any]
    embed: dict[str, Any]

    @property
    def task(self) -> str:
        """The task's name."""
        return str(self.headers.get("task"))

    @property
    def task_id(self) -> str:
        """The id that its sender knows it by."""
        return str(self.headers.get("id"))


def read_message(raw: bytes | str) -> TaskMessage:
    """Take a raw list entry apart; EnvelopeError says what is wrong with it."""
    message = _object(_json(raw, "the message"), "the message")
    headers = _object(message.get("headers"), "headers")
    if message.get("content-type") != "application/json":
        raise EnvelopeError(
            f"the content type is {message.get('content-type')!r}: only application/json is read"
        )
    try:
        body = pybase64.b64decode(message.get("body") or "", validate=True)
    except (TypeError, ValueError) as error:
        raise EnvelopeError(f"the body is not base64: {error}") from error
    parts = _json(body, "the body")
    if not isinstance(parts, list) or len(parts) != 3 or not isinstance(parts[0], list):
        raise EnvelopeError("the body is not [args, kwargs, embed]")
    return TaskMessage(headers, parts[0], _object(parts[1], "kwargs"), _object(parts[2], "embed"))


def decode(raw: bytes | str) -> Envelope:
    """Read a raw list entry that Shunter wrote; EnvelopeError says what is wrong with it."""
    return to_envelope(read_message(raw))


def to_envelope(message: TaskMessage) -> Envelope:
    """Read one of our own messages; EnvelopeError if it is none."""
    if message.task != TASK_NAME:
        raise EnvelopeError(f"the task is {message.task!r}, not {TASK_NAME!r}")
    fields = message.kwargs
    ids = fields.get("ids")
    if not isinstance(ids, list) or not ids:
        raise EnvelopeError("kwargs holds no list of ids")
    try:
        return Envelope(
            id=UUID(message.task_id),
            ids=tuple(map(read_uuid, ids)),
            model=str(fields.get("model", "")),
            version=_count(fields.get("version", 0)),
            rows=_count(fields.get("rows", 0)),
            priority=_priority(fields.get("priority")),
            enqueued_at=_seconds(fields.get("enqueued_at")),
        )
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise EnvelopeError(f"kwargs holds a bad value: {error!r}") from error


def _priority(label: Any) -> Priority:
    try:
        return Priority.from_label(str(label))
    except KeyError:
        # Absent, or a class that only a newer writer knows.
        return Priority.STANDARD


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    if not 0 <= float(value) < LATEST:
        raise ValueError(f"{value!r:.40} is no time")
    return float(value)


def _count(value: Any) -> int:
    number = int(value)
    if not 0 <= number < 2**31:
        raise ValueError(f"{number:g} is no version or number of rows")
    return number


def _json(raw: bytes | str, what: str) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise EnvelopeError(f"{what} is not JSON: {error}") from error


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise EnvelopeError(f"{what} is not an object but {type(value).__name__}")
    return value
