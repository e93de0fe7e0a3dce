"""The same fleet on services that somebody else runs: Postgres, Redis, and an S3 server for large blocks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import httpx
import numpy as np
import pytest

from shunter import Client
from shunter.local_fleet import FleetOptions, LocalFleet
from shunter.storage.database import Database
from shunter.storage.job_repository import JobRepository
from shunter.storage.results import INLINE_LIMIT_BYTES
from shunter.storage.settings import Settings
from tests.acceptance.fleet import DOUBLE, write_model
from tests.object_store_servers import ACCESS_KEY, BUCKET, SECRET_KEY, rclone_server

FLOATS = INLINE_LIMIT_BYTES // 8 + 1000


@pytest.fixture
def settings(
    tmp_path: Path, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """Services as an operator's environment names them."""
    (tmp_path / "buckets").mkdir()
    with rclone_server(tmp_path / "buckets") as access:
        assert access.endpoint_url is not None
        monkeypatch.setenv("AWS_ENDPOINT_URL", access.endpoint_url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield Settings(database_url=database_url, redis_url=redis_url, object_store=f"s3://{BUCKET}/fleet")


@pytest.fixture
def fleet(tmp_path: Path, settings: Settings) -> Iterator[LocalFleet]:
    write_model(tmp_path / "models", "double", DOUBLE)
    options = FleetOptions(
        data=tmp_path / "data", models=tmp_path / "models", port=0, flower=False, external=settings
    )
    with LocalFleet(options) as fleet:
        yield fleet


def test_large_results_come_back_from_s3_by_python_and_http(tmp_path: Path, fleet: LocalFleet) -> None:
    row = np.arange(FLOATS, dtype=np.float64)
    with Client(settings=fleet.settings) as client:
        job = client.submit("double", [row, row + 1])
        first, second = job.outputs()
    np.testing.assert_array_equal(first, 2 * row)
    np.testing.assert_array_equal(second, 2 * row + 2)

    document = httpx.get(f"{fleet.api_url}/v1/jobs/{job.id}/results", timeout=60).raise_for_status().json()
    assert document["errors"] == []
    np.testing.assert_array_equal(np.array(document["outputs"]), np.stack([2 * row, 2 * row + 2]))

    stored = {path.name for path in (tmp_path / "buckets" / BUCKET / "fleet").rglob("*") if path.is_file()}
    input_name, output_name = sorted(stored, key=len, reverse=True)
    assert input_name == job.id
    assert output_name.startswith("1-"), "under its epoch"
    database = Database(fleet.settings.database_url)
    result = JobRepository(database).results([UUID(job.id)])[UUID(job.id)]
    database.close()
    assert result.output is not None
    assert result.output.inline is None


def test_nothing_of_its_own_is_started_and_small_results_stay_in_postgres(
    tmp_path: Path, fleet: LocalFleet
) -> None:
    with Client(fleet.api_url) as client:
        assert client.submit("double", [1, 2]).outputs() == [2, 4]
    assert not (tmp_path / "data" / "postgres").exists()
    assert not (tmp_path / "data" / "redis").exists()
    assert not list((tmp_path / "buckets" / BUCKET).rglob("*"))
