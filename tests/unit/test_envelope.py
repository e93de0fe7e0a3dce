"""The queue contract, as we read it and as Celery and kombu read it."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu import Connection
from kombu.transport import virtual

from shunter.storage.envelope import (
    MAX_ROWS,
    PRIORITY_STEPS,
    STEPS,
    TASK_NAME,
    Due,
    Envelope,
    by_list,
    decode,
    encode,
    list_key,
    pack,
    queue_name,
)
from shunter.storage.errors import EnvelopeError
from shunter.storage.ids import new_id
from shunter.storage.job import Priority

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
RECORDED = Path(__file__).parents[1] / "recorded" / "envelope-of-the-first-version.json"

FIELDS = ["ids", "model", "version", "rows", "priority", "enqueued_at", "more"]

ENVELOPE = Envelope(
    id=uuid4(),
    ids=(new_id(), new_id()),
    model="digits",
    version=3,
    rows=7,
    priority=Priority.BULK,
    enqueued_at=1_763_715_600.25,
)


def due(rows: int = 1, *, model: str = "digits", version: int = 1, priority: int = 1) -> Due:
    return Due(new_id(), model, version, rows, Priority(priority))


def body_of(**fields: Any) -> bytes:
    return orjson.dumps([[], fields, {}])


def delivered(raw: bytes) -> Any:
    """The message as kombu hands it to Celery."""
    return virtual.Message(orjson.loads(raw), channel=Connection("memory://").channel())


def message_of(body: bytes, **headers: Any) -> bytes:
    return raw_of(base64.b64encode(body).decode(), **headers)


def raw_of(body: object, **headers: Any) -> bytes:
    headers = {"task": TASK_NAME, "id": str(ENVELOPE.id)} | headers
    return orjson.dumps({"body": body, "content-type": "application/json", "headers": headers})


# Reading what was written


@pytest.mark.parametrize("priority", Priority)
def test_an_envelope_comes_back(priority: Priority) -> None:
    envelope = Envelope(id=uuid4(), ids=(new_id(),), model="dîgits", rows=3, priority=priority)
    assert decode(encode(envelope)) == envelope
    assert decode(encode(ENVELOPE)) == ENVELOPE


def test_only_the_ids_are_needed() -> None:
    body = body_of(ids=[str(id) for id in ENVELOPE.ids])
    assert decode(message_of(body)) == Envelope(id=ENVELOPE.id, ids=ENVELOPE.ids)


def test_what_a_newer_writer_adds_is_ignored() -> None:
    message = orjson.loads(encode(ENVELOPE))
    args, kwargs, embed = orjson.loads(base64.b64decode(message["body"]))
    body = [args, kwargs | {"trace": {"id": 1}, "v": 9}, embed | {"more": []}]
    message["body"] = base64.b64encode(orjson.dumps(body)).decode()
    message["headers"]["shunter_version"] = 9
    assert decode(orjson.dumps(message | {"new": True})) == ENVELOPE


def test_what_the_first_version_wrote_is_read_as_ever() -> None:
    envelope = decode(RECORDED.read_bytes())
    assert [str(id)[-4:] for id in envelope.ids] == ["8057", "8058"]
    assert (envelope.model, envelope.version, envelope.rows) == ("double", 1, 2)
    assert (envelope.priority, envelope.enqueued_at) == (Priority.STANDARD, 1_700_000_000.25)


def test_readers_of_the_first_version_find_all_that_it_wrote_in_what_is_written_now() -> None:
    then, now = orjson.loads(RECORDED.read_bytes()), orjson.loads(encode(ENVELOPE))
    assert then.keys() <= now.keys()
    assert then["headers"].keys() <= now["headers"].keys()
    assert then["properties"].keys() <= now["properties"].keys()
    kwargs_then, kwargs_now = (orjson.loads(base64.b64decode(m["body"]))[1] for m in (then, now))
    assert kwargs_then.keys() <= kwargs_now.keys()


def test_a_priority_that_only_a_newer_writer_knows_is_standard() -> None:
    envelope = decode(message_of(body_of(ids=[str(new_id())], priority="urgent")))
    assert envelope.priority is Priority.STANDARD


# What nobody could have written


@given(st.binary() | st.text())
def test_arbitrary_bytes_are_no_envelope(raw: bytes | str) -> None:
    with pytest.raises(EnvelopeError):
        decode(raw)


@given(JSON, st.sampled_from(["", "headers", "body", "properties"]))
def test_arbitrary_json_is_an_envelope_or_an_error(value: Any, place: str) -> None:
    message = {**orjson.loads(encode(ENVELOPE)), place: value} if place else value
    _decode_or_refuse(as_json(message))


@given(JSON)
def test_an_arbitrary_body_is_an_envelope_or_an_error(body: Any) -> None:
    _decode_or_refuse(message_of(as_json(body)))


@given(st.dictionaries(st.sampled_from(FIELDS), JSON), st.lists(JSON | st.uuids().map(str)))
def test_arbitrary_fields_are_an_envelope_or_an_error(fields: dict[str, Any], ids: list[Any]) -> None:
    for kwargs in ({"ids": [str(uuid4())]} | fields, fields | {"ids": ids}):
        _decode_or_refuse(message_of(as_json([[], kwargs, {}])))


def as_json(value: Any) -> bytes:
    """As JSON, where an integer of any size is a number."""
    return json.dumps(value, allow_nan=False, default=str).encode() if _finite(value) else b"NaN"


def _finite(value: Any) -> bool:
    match value:
        case float():
            return value - value == 0
        case dict():
            return all(_finite(part) for part in value.values())
        case list():
            return all(_finite(part) for part in value)
        case _:
            return True


def _decode_or_refuse(raw: bytes) -> None:
    with suppress(EnvelopeError):
        envelope = decode(raw)
        assert decode(encode(envelope)).ids == envelope.ids != ()


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 5000, "not JSON"),
        (b"[]", "not an object but list"),
        (b"{}", "headers is not an object"),
        (message_of(body_of(), task="tasks.add"), "the task is 'tasks.add'"),
        (raw_of("ä"), "not base64"),
        (raw_of(5), "not base64"),
        (raw_of(None), "the body is not JSON"),
        (message_of(b"[1]"), "not .args, kwargs, embed."),
        (message_of(b"[[], 5, {}]"), "kwargs is not an object but int"),
        (message_of(body_of()), "no list of ids"),
        (message_of(body_of(ids=[])), "no list of ids"),
        (message_of(body_of(ids="abc")), "no list of ids"),
        (message_of(body_of(ids=["abc"])), "bad value"),
        (message_of(body_of(ids=[7])), "bad value"),
        (message_of(body_of(ids=[str(new_id())], rows=[])), "bad value"),
        (message_of(body_of(ids=[str(new_id())]), id="no uuid"), "bad value"),
    ],
)
def test_an_error_says_what_is_wrong(raw: bytes, reason: str) -> None:
    with pytest.raises(EnvelopeError, match=reason):
        decode(raw)


@pytest.mark.parametrize("moment", ["inf", "nan", "-inf", -1.0, 1e300, 253_402_300_800, "x", []])
def test_a_time_that_no_clock_shows_is_refused(moment: object) -> None:
    with pytest.raises(EnvelopeError, match="bad value"):
        decode(message_of(body_of(ids=[str(new_id())], enqueued_at=moment)))


# Packing


def test_due_jobs_are_packed_in_their_order() -> None:
    jobs = [due() for _ in range(MAX_ROWS + 10)]
    first, second = pack(jobs, 5.0)
    assert first.ids + second.ids == tuple(job.id for job in jobs)
    assert (first.rows, second.rows) == (MAX_ROWS, 10)
    assert (first.model, first.version, first.priority, first.enqueued_at) == (
        "digits",
        1,
        Priority.STANDARD,
        5.0,
    )
    assert first.id != second.id


@given(st.lists(st.builds(due, st.integers(1, 600), version=st.integers(1, 2), priority=st.integers(0, 2))))
def test_envelopes_never_mix_and_hold_everything_in_order(jobs: list[Due]) -> None:
    envelopes = list(pack(jobs, 0.0))
    by_id = {job.id: job for job in jobs}
    for envelope in envelopes:
        inside = [by_id[id] for id in envelope.ids]
        assert {(job.version, job.priority) for job in inside} == {(envelope.version, envelope.priority)}
        assert envelope.rows == sum(job.rows for job in inside)
        assert envelope.rows <= MAX_ROWS or len(inside) == 1
    for key in {(job.version, job.priority) for job in jobs}:
        assert _ids(envelopes, key) == [job.id for job in jobs if (job.version, job.priority) == key]


def _ids(envelopes: Sequence[Envelope], key: tuple[int, Priority]) -> list[UUID]:
    return [id for e in envelopes if (e.version, e.priority) == key for id in e.ids]


def test_a_big_job_travels_alone() -> None:
    before, big, after = due(), due(MAX_ROWS + 1), due()
    assert [envelope.ids for envelope in pack([before, big, after], 0.0)] == [
        (before.id,),
        (big.id,),
        (after.id,),
    ]


def test_an_envelope_of_one_job_has_its_id() -> None:
    job = due(rows=5)
    (envelope,) = pack([job], 0.0)
    assert envelope.id == job.id


def test_nothing_due_is_no_envelope() -> None:
    assert list(pack([], 0.0)) == []


# Lists and priority steps


def test_every_priority_has_its_list_and_standard_is_the_queue_itself() -> None:
    keys = {priority: list_key(queue_name("digits"), priority) for priority in Priority}
    assert keys == {
        Priority.INTERACTIVE: "infer.digits\x06\x163",
        Priority.STANDARD: "infer.digits",
        Priority.BULK: "infer.digits\x06\x166",
    }
    assert set(STEPS.values()) < set(PRIORITY_STEPS)


def test_envelopes_are_sorted_into_their_lists_in_order() -> None:
    jobs = [due(priority=1), due(priority=2), due(priority=1, version=2), due(model="other")]
    lists = by_list(pack(jobs, 0.0))
    assert {key: [decode(raw).ids[0] for raw in raws] for key, raws in lists.items()} == {
        "infer.digits": [jobs[0].id, jobs[2].id],
        "infer.digits\x06\x166": [jobs[1].id],
        "infer.other": [jobs[3].id],
    }


# As Celery and kombu read it


def test_kombu_reads_the_message() -> None:
    message = delivered(encode(ENVELOPE))
    args, kwargs, embed = message.decode()
    assert (args, kwargs["ids"]) == ([], [str(id) for id in ENVELOPE.ids])
    assert embed == {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    assert message.headers["task"] == TASK_NAME
    assert message.properties["priority"] == STEPS[Priority.BULK]
    assert message.delivery_info["routing_key"] == "infer.digits"
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")


def test_every_delivery_has_a_tag_of_its_own() -> None:
    tags = {orjson.loads(encode(ENVELOPE))["properties"]["delivery_tag"] for _ in range(3)}
    assert len(tags) == 3


def test_celery_makes_a_task_request_of_it() -> None:
    from celery import Celery
    from celery.worker.request import Request

    app = Celery(set_as_current=False)
    app.task(name=TASK_NAME, shared=False)(due)
    message = delivered(encode(ENVELOPE))
    request = Request(message, app=app, task=app.tasks[TASK_NAME])
    assert (request.id, request.name) == (str(ENVELOPE.id), TASK_NAME)
    assert request.argsrepr == "('digits v3: 2 jobs, 7 rows',)"
    assert str(ENVELOPE.ids[1]) in request.kwargsrepr
    assert request.kwargs["rows"] == 7
