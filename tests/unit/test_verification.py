"""What is wrong with a job is told from its facts alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from shunter.storage.ids import new_id
from shunter.storage.job import JobState
from shunter.storage.job_facts import JobFacts
from shunter.storage.payload import HEADER_BYTES, encode_rows
from shunter.storage.results import input_key, job_of, output_key
from shunter.storage.verification import CHECKS, unnamed

QUEUED = JobFacts(
    id=new_id(),
    state=JobState.QUEUED,
    epoch=0,
    rows=3,
    rows_succeeded=0,
    rows_failed=0,
    rows_listed=0,
    has_error=False,
    is_chunk=False,
    inputs=1,
    input_key=None,
    outputs=0,
    output_key=None,
    output_head=None,
    has_worker=False,
    has_finished=False,
    worker_is_open=False,
    late_s=0.0,
    overslept_s=0.0,
)
RUNNING = replace(QUEUED, state=JobState.RUNNING, epoch=1, has_worker=True, worker_is_open=True)
SUCCEEDED = replace(
    RUNNING,
    state=JobState.SUCCEEDED,
    rows_succeeded=2,
    rows_failed=1,
    rows_listed=1,
    outputs=1,
    output_head=encode_rows([1, 2, None])[:HEADER_BYTES],
    has_finished=True,
)
FAILED = replace(RUNNING, state=JobState.FAILED, rows_failed=3, has_error=True, has_finished=True)
CANCELLED = replace(QUEUED, state=JobState.CANCELLED, has_finished=True)
CHUNK = replace(SUCCEEDED, is_chunk=True, rows_listed=0, output_head=b'{"rows_key":')
SOUND = (
    CHUNK,
    replace(CHUNK, state=JobState.FAILED, rows_succeeded=0, rows_failed=3, has_error=True),
    replace(FAILED, is_chunk=True),
    *(QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED, replace(FAILED, rows_listed=3)),
)


def complaints(job: JobFacts) -> set[str]:
    return {name for name, check in CHECKS.items() if check(job) is not None}


@pytest.mark.parametrize("job", SOUND, ids=lambda job: str(job.state))
def test_a_sound_job_has_no_finding(job: JobFacts) -> None:
    assert complaints(job) == set()


@pytest.mark.parametrize(
    ("check", "job", "changes"),
    [
        ("stuck", RUNNING, {"worker_is_open": False}),
        ("stuck", QUEUED, {"late_s": 60.0}),
        ("stuck", QUEUED, {"overslept_s": 60.0}),
        ("result", SUCCEEDED, {"outputs": 0, "output_head": None}),
        ("result", SUCCEEDED, {"outputs": 2}),
        ("result", CANCELLED, {"outputs": 1}),
        ("input", QUEUED, {"inputs": 0}),
        ("input", QUEUED, {"inputs": 2}),
        ("outputs", SUCCEEDED, {"output_head": encode_rows([1, 2])[:HEADER_BYTES]}),
        ("outputs", SUCCEEDED, {"output_head": b"garbage of sixteen bytes"}),
        ("outputs", CHUNK, {"output_head": SUCCEEDED.output_head}),
        ("result", CHUNK, {"outputs": 0, "output_head": None}),
        ("counters", SUCCEEDED, {"rows_succeeded": 3}),
        ("counters", SUCCEEDED, {"rows_listed": 0}),
        ("counters", SUCCEEDED, {"rows_succeeded": 0, "rows_failed": 3, "rows_listed": 3}),
        ("counters", FAILED, {"rows_succeeded": 1, "rows_failed": 2}),
        ("counters", FAILED, {"rows_listed": 2}),
        ("owner", RUNNING, {"has_worker": False}),
        ("owner", QUEUED, {"has_worker": True}),
        ("owner", SUCCEEDED, {"has_finished": False}),
        ("owner", QUEUED, {"has_finished": True}),
        ("reason", FAILED, {"has_error": False}),
    ],
)
def test_each_disagreement_is_found_by_its_own_check(
    check: str, job: JobFacts, changes: dict[str, Any]
) -> None:
    assert complaints(replace(job, **changes)) == {check}


def test_every_check_is_tested_above() -> None:
    marks = test_each_disagreement_is_found_by_its_own_check.pytestmark
    assert {case[0] for case in marks[0].args[1]} == set(CHECKS)


def test_an_object_is_unnamed_when_no_row_can_name_it_any_more() -> None:
    key = output_key(SUCCEEDED.id, 1)
    assert unnamed(key, None)
    assert unnamed(key, SUCCEEDED)
    assert not unnamed(key, replace(SUCCEEDED, output_key=key))
    assert not unnamed(key, RUNNING)


@pytest.mark.parametrize("job", [new_id(), UUID(int=5)])
def test_a_key_tells_its_job(job: UUID) -> None:
    assert job_of(input_key(job)) == job
    assert job_of(f"{input_key(job)}-0123456789abcdef") == job
    assert job_of(output_key(job, 3)) == job


@pytest.mark.parametrize("key", ["inputs/x", "inputs/20260101/x", "a/b/c", "outputs/20260101/x/1", "x"])
def test_keys_of_others_tell_none(key: str) -> None:
    assert job_of(key) is None
