"""Jobs of many sizes and from many places, through a real fleet: every output at its own index and job."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from shunter import Client, JobFailed, RowsFailed
from shunter.local_fleet import LocalFleet
from shunter.storage.database import Database
from shunter.storage.worker_registry import WorkerRegistry
from tests.acceptance.fleet import DOUBLE, fleet_of
from tests.waiting import wait_until

DROPS = """
class Model:
    def forward(self, rows):
        return rows[:-1] if len(rows) > 1 else []
"""
DUPLICATES = """
class Model:
    def forward(self, rows):
        return [*rows, rows[0]]
"""
POISONED = """
class Model:
    def preprocess(self, row):
        return float(row)

    def forward(self, rows):
        if -1 in rows:
            raise ValueError("minus one is poison")
        return [row + 0.5 for row in rows]
"""
BROKEN = """
class Model:
    def load(self, directory, device, **params):
        raise RuntimeError("the weights are missing")

    def forward(self, rows):
        return rows
"""

MODELS = {
    "double": DOUBLE,
    "drops": DROPS,
    "duplicates": DUPLICATES,
    "poisoned": POISONED,
    "broken": BROKEN,
}

fleet = fleet_of(MODELS)


@pytest.fixture
def client(fleet: LocalFleet) -> Any:
    with Client(settings=fleet.settings) as client:
        yield client


def batches(fleet: LocalFleet, model: str) -> dict[str, Any]:
    """What the workers' last heartbeats say of a model's batches."""
    database = Database(fleet.settings.database_url)
    try:
        registry = WorkerRegistry(database)
        told = wait_until(lambda: [w.stats for w in registry.present() if w.live and w.stats])
        return dict(told[0][f"{model}:1"])
    finally:
        database.close()


def test_large_and_small_jobs_together_keep_every_output_in_its_place(client: Client) -> None:
    large = client.submit("double", list(range(5000)))
    with ThreadPoolExecutor(8) as threads:
        small = list(threads.map(lambda n: client.submit("double", [10_000 + n]), range(500)))
    assert large.outputs() == [2 * n for n in range(5000)]
    assert [job.outputs() for job in small] == [[20_000 + 2 * n] for n in range(500)]
    assert {job.status().attempts for job in small} == {0}


def test_items_share_full_batches(client: Client, fleet: LocalFleet) -> None:
    before = batches(fleet, "double")
    items = client.submit_many("double", range(4096))
    assert [item.output() for item in items] == [2 * n for n in range(4096)]
    wait_until(lambda: batches(fleet, "double")["rows"] - before["rows"] >= 4096)
    told = batches(fleet, "double")
    count = told["batches"] - before["batches"]
    assert 4096 / count >= 16
    assert told["reasons"]["full"] - before["reasons"].get("full", 0) >= count / 2


def test_arrays_keep_their_dtype(client: Client) -> None:
    rows = [np.full((2, 3), n, dtype=np.float32) for n in range(10)]
    outputs: Any = client.submit("double", rows).outputs()
    assert {output.dtype for output in outputs} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(np.stack(outputs), 2 * np.stack(rows))


def test_a_forked_child_submits_on_its_own_connections(client: Client) -> None:
    assert client.submit("double", [1]).outputs() == [2]
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            outputs = client.submit("double", [21]).outputs()
            os.write(writer, str(outputs).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.read() == "[42]"
    os.waitpid(child, 0)
    assert client.submit("double", [2]).outputs() == [4]


@pytest.mark.parametrize("model", ["drops", "duplicates"])
def test_a_model_that_miscounts_never_yields_a_succeeded_row(client: Client, model: str) -> None:
    job = client.submit(model, list(range(20)))
    status = job.wait(timeout=30)
    assert (status.state, status.rows.succeeded) == ("failed", 0)
    assert {error.code for error in job.errors()} == {"output_mismatch"}
    with pytest.raises(JobFailed, match="output"):
        job.outputs()


def test_a_poison_row_fails_alone_in_few_extra_forwards(client: Client, fleet: LocalFleet) -> None:
    rows = [-1 if n == 77 else n for n in range(256)]
    job = client.submit("poisoned", rows)
    with pytest.raises(RowsFailed, match="minus one is poison") as caught:
        job.outputs()
    assert [error.index for error in caught.value.errors] == [77]
    assert caught.value.outputs[76:79] == [76.5, None, 78.5]
    wait_until(lambda: batches(fleet, "poisoned")["rows"] >= 256, timeout_s=10)
    told = batches(fleet, "poisoned")
    assert told["forwards"] - told["batches"] <= 8 + 4


def test_a_row_that_cannot_be_preprocessed_fails_alone_among_other_jobs(client: Client) -> None:
    bad, good = client.submit("poisoned", ["x", 1]), client.submit("poisoned", [2])
    assert good.outputs() == [2.5]
    assert bad.outputs(errors="none") == [None, 1.5]
    assert [(error.index, error.code) for error in bad.errors()] == [(0, "value_error")]


def test_a_model_that_cannot_load_fails_its_jobs_and_no_others(client: Client) -> None:
    job = client.submit("broken", [1])
    assert client.submit("double", [4]).outputs() == [8]
    status = job.wait(timeout=60)
    assert status.state == "failed"
    assert status.error is not None
    assert status.error["code"] == "model_load_failed"
    assert "the weights are missing" in status.error["message"]
    assert client.submit("double", [5]).outputs() == [10]
