"""The public documents: their keys, their meaning, and that they read back as what was written."""

import math
from dataclasses import replace

import numpy as np
import pytest

from shunter.producers.documents import (
    job_document,
    read_job_document,
    read_results_document,
    results_document,
)
from shunter.producers.outputs import JobResults
from shunter.producers.status import JobStatus, RowCounts, item_status, job_status
from shunter.producers.waiting import Waiting
from shunter.storage.errors import InvalidInput, JobFailed, RowsFailed, UnknownJob
from shunter.storage.job import JobState
from shunter.storage.outcome import RowFailure
from tests.unit.test_waiting import JOB, NOW

BAD = RowFailure(1, "too_long", "513 tokens")

RESULTS = JobResults(id=str(JOB.id), state=JobState.SUCCEEDED, outputs=["a", None, None], failures=(BAD,))

DONE = job_status(
    replace(
        JOB,
        state=JobState.SUCCEEDED,
        rows=3,
        rows_succeeded=2,
        rows_failed=1,
        started_at=NOW,
        finished_at=NOW,
        metadata={"run": 7},
    )
)


def test_a_job_document_has_the_promised_keys() -> None:
    assert job_document(job_status(JOB, Waiting("in_line", "it is next in line for a worker"))) == {
        "id": str(JOB.id),
        "model": "sentiment",
        "version": 3,
        "state": "queued",
        "priority": "standard",
        "rows": {"total": 4, "succeeded": 0, "failed": 0},
        "attempts": 0,
        "waiting": {"code": "in_line", "message": "it is next in line for a worker"},
        "created_at": "2026-01-02T03:04:05+00:00",
        "started_at": None,
        "finished_at": None,
        "error": None,
        "metadata": None,
        "links": {
            "self": f"/v1/jobs/{JOB.id}",
            "results": f"/v1/jobs/{JOB.id}/results",
            "cancel": f"/v1/jobs/{JOB.id}/cancel",
        },
    }


@pytest.mark.parametrize("status", [DONE, job_status(JOB, Waiting("no_worker", "none"))])
def test_a_job_document_reads_back(status: JobStatus) -> None:
    assert read_job_document(job_document(status)) == status


def test_an_item_links_to_its_job_and_cannot_be_cancelled() -> None:
    document = job_document(item_status(DONE, 2, None))
    assert document["id"] == f"{JOB.id}.2"
    assert document["links"] == {
        "self": f"/v1/jobs/{JOB.id}.2",
        "results": f"/v1/jobs/{JOB.id}.2/results",
        "job": f"/v1/jobs/{JOB.id}",
    }


def test_an_item_of_a_finished_job_reads_as_a_job_of_one_row() -> None:
    good, bad = item_status(DONE, 0, None), item_status(DONE, 1, BAD)
    assert (good.state, good.rows, good.error) == (JobState.SUCCEEDED, RowCounts(1, 1, 0), None)
    assert (bad.state, bad.rows) == (JobState.FAILED, RowCounts(1, 0, 1))
    assert bad.error == {"code": "too_long", "message": "513 tokens"}


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING, JobState.CANCELLED, JobState.EXPIRED])
def test_an_item_is_otherwise_where_its_job_is(state: JobState) -> None:
    item = item_status(job_status(replace(JOB, state=state)), 0, None)
    assert (item.state, item.rows) == (state, RowCounts(1, 0, 0))


def test_a_results_document_has_the_promised_keys() -> None:
    assert results_document(RESULTS) == {
        "id": str(JOB.id),
        "outputs": ["a", None, None],
        "errors": [{"index": 1, "code": "too_long", "message": "513 tokens"}],
    }


@pytest.mark.parametrize("value", [math.nan, [1.0, -math.inf], {"x": np.array([math.inf])}])
def test_an_output_that_json_cannot_say_is_a_row_error(value: object) -> None:
    document = results_document(replace(RESULTS, outputs=[1, None, value]))
    assert document["outputs"] == [1, None, None]
    assert [(error["index"], error["code"]) for error in document["errors"]] == [
        (1, "too_long"),
        (2, "not_finite"),
    ]


def test_outputs_read_back_with_arrays_as_lists() -> None:
    written = replace(RESULTS, outputs=[b"\x00\xff", None, np.arange(3)])
    read = read_results_document(results_document(written), JobState.SUCCEEDED)
    assert read.outputs == [b"\x00\xff", None, [0, 1, 2]]
    assert read.failures == (BAD,)


def test_taking_the_outputs_of_a_job_with_a_bad_row_raises_with_both_lists() -> None:
    with pytest.raises(RowsFailed, match="1 of 3 rows") as raised:
        RESULTS.take()
    assert raised.value.outputs == ["a", None, None]
    assert raised.value.errors == [BAD]


def test_outputs_can_be_taken_with_none_for_bad_rows() -> None:
    assert RESULTS.take("none") == ["a", None, None]


def test_the_way_to_take_errors_must_be_known() -> None:
    with pytest.raises(InvalidInput, match='it must be "raise" or "none"'):
        RESULTS.take("ignore")  # type: ignore[arg-type]


def test_a_null_output_without_an_error_is_an_output() -> None:
    assert RESULTS.item(2).take() == [None]


def test_one_bad_row_alone_is_a_failed_job() -> None:
    with pytest.raises(JobFailed, match="failed: too_long: 513 tokens"):
        RESULTS.item(1).take()


def test_a_row_beyond_the_last_is_unknown() -> None:
    with pytest.raises(UnknownJob):
        RESULTS.item(3)
