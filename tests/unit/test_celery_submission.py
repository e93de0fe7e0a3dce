"""What a plain Celery producer may send, and what is refused with the reason."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from shunter.storage.envelope import list_key, queue_name, read_message
from shunter.storage.errors import EnvelopeError
from shunter.storage.job import Priority
from shunter.storage.submission import Submission, job_id, read_submission
from tests.celery_messages import submission_message

STANDARD = list_key(queue_name("digits"), Priority.STANDARD)


def read(raw: bytes, key: str = STANDARD) -> Submission:
    return read_submission(read_message(raw), key, raw)


def sent(**changes: Any) -> Submission:
    return read(submission_message("digits", [1, 2], **changes))


def refusal(raw: bytes, key: str = STANDARD) -> str:
    with pytest.raises(EnvelopeError) as error:
        read(raw, key)
    return error.value.message


def message_with_body(body: object, **headers: Any) -> bytes:
    message = json.loads(submission_message("digits", [1], headers=headers))
    message["body"] = base64.b64encode(json.dumps(body).encode()).decode()
    return json.dumps(message).encode()


def test_rows_and_model_are_read_and_everything_else_has_a_default() -> None:
    id = str(uuid4())
    submission = sent(task_id=id)
    assert (submission.id, submission.model, submission.rows) == (UUID(id), "digits", [1, 2])
    assert (submission.version, submission.metadata) == (None, None)
    assert (submission.not_before, submission.deadline) == (None, None)


def test_version_and_metadata_are_the_jobs() -> None:
    submission = sent(version=3, metadata={"run": 7})
    assert (submission.version, submission.metadata) == (3, {"run": 7})


def test_bytes_travel_as_base64() -> None:
    raw = submission_message("digits", [{"image": {"$bytes": "aGk="}}])
    assert read(raw).rows == [{"image": b"hi"}]


@pytest.mark.parametrize(
    ("step", "priority"),
    [
        ("", Priority.STANDARD),
        ("\x06\x163", Priority.INTERACTIVE),
        ("\x06\x166", Priority.BULK),
        ("\x06\x169", Priority.BULK),
    ],
)
def test_the_list_tells_the_priority(step: str, priority: Priority) -> None:
    raw = submission_message("digits", [1])
    assert read(raw, queue_name("digits") + step).priority is priority


def test_eta_and_expires_are_moments() -> None:
    headers = {"eta": "2030-01-02T03:04:05+00:00", "expires": "2031-01-02T03:04:05.678"}
    submission = sent(headers=headers)
    assert submission.not_before == datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert submission.deadline == datetime(2031, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)


def test_a_task_id_that_is_no_uuid_has_one_job_id() -> None:
    assert job_id("nightly-7") == job_id("nightly-7") != job_id("nightly-8")
    assert job_id("nightly-7").version == 5
    assert sent(task_id="nightly-7").id == job_id("nightly-7")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"embed": {"chain": [{"task": "next"}]}}, "chain"),
        ({"embed": {"callbacks": [{"task": "next"}]}}, "callbacks"),
        ({"embed": {"errbacks": [{"task": "next"}]}}, "errbacks"),
        ({"embed": {"chord": {"task": "next"}}}, "chord"),
        ({"headers": {"group": str(uuid4())}}, "group"),
    ],
)
def test_workflows_are_refused(changes: dict[str, Any], reason: str) -> None:
    told = refusal(submission_message("digits", [1], **changes))
    assert told == f"the task has {reason}: Shunter runs no workflows, poll the job instead"


def test_a_pickled_body_is_refused_unread() -> None:
    raw = submission_message("digits", [1], content_type="application/x-python-serialize")
    assert "only application/json is read" in refusal(raw)


def test_positional_arguments_are_refused_with_the_names() -> None:
    told = refusal(message_with_body([["digits", [1]], {}, {}]))
    assert told.endswith(
        "takes the keyword arguments metadata, model, rows, version, not positional arguments"
    )


def test_unknown_arguments_are_refused_by_name() -> None:
    assert "unknown arguments colour" in refusal(submission_message("digits", [1], colour="red"))


def test_a_message_on_another_models_queue_is_refused() -> None:
    told = refusal(submission_message("digits", [1]), key=queue_name("faces"))
    assert told == "model is 'digits' on the queue infer.faces: send it to infer.<model>"


@pytest.mark.parametrize(
    ("kwargs", "reason"),
    [
        ({"model": 7, "rows": [1]}, "model is 7"),
        ({"rows": [1]}, "model is None"),
        ({"model": "digits"}, "rows is a NoneType"),
        ({"model": "digits", "rows": []}, "rows is empty"),
        ({"model": "digits", "rows": {"a": 1}}, "rows is a dict"),
        ({"model": "digits", "rows": [{"$bytes": "?"}]}, "rows[0]"),
        ({"model": "digits", "rows": [1], "version": 0}, "versions are positive integers"),
        ({"model": "digits", "rows": [1], "version": True}, "versions are positive integers"),
        ({"model": "digits", "rows": [1], "metadata": [1]}, "metadata is list"),
        ({"model": "digits", "rows": [1], "metadata": {"a": "\x00"}}, "metadata holds a NUL"),
        ({"model": "digits", "rows": [1], "metadata": {"a": "x" * 20_000}}, "keep it in your own store"),
    ],
)
def test_bad_arguments_are_refused_with_the_remedy(kwargs: dict[str, Any], reason: str) -> None:
    assert reason in refusal(message_with_body([[], kwargs, {}]))


def test_deeply_nested_rows_are_refused() -> None:
    row: Any = 1
    for _ in range(900):
        row = [row]
    assert "flatten it" in refusal(submission_message("digits", [row]))


@pytest.mark.parametrize("id", [None, "", 7])
def test_a_message_without_a_task_id_is_refused(id: object) -> None:
    assert "no task id" in refusal(submission_message("digits", [1], headers={"id": id}))


@pytest.mark.parametrize(
    "moment", [7, "soon", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", ["2030-01-01"]]
)
@pytest.mark.parametrize("header", ["eta", "expires"])
def test_a_moment_that_cannot_be_is_refused(header: str, moment: object) -> None:
    assert refusal(submission_message("digits", [1], headers={header: moment})).startswith(f"{header} is ")
