"""Submitting while Redis is silent: the row is what counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from shunter import Client
from shunter.embedded import start_redis
from shunter.storage.database import Database
from shunter.storage.ids import new_id
from shunter.storage.model_config import ModelConfig
from shunter.storage.model_registry import ModelRegistry, ModelVersion
from shunter.storage.settings import Settings
from shunter.storage.worker_registry import NewWorker, Serving, WorkerRegistry


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """A fleet with a worker, whose Redis has just died."""
    with start_redis(tmp_path / "redis") as server:
        url = server.url
    database = Database(database_url)
    model = ModelVersion("double", 1, tmp_path, ModelConfig(), "digest")
    ModelRegistry(database).register([model])
    worker = NewWorker(
        incarnation=new_id(), name="w", host="h", pid=1, device="cpu", serves=(Serving("double", 1),)
    )
    WorkerRegistry(database).register(worker)
    database.close()
    return Settings(database_url=database_url, redis_url=url, object_store=f"file://{tmp_path}/objects")


def test_a_submit_succeeds_and_says_that_dispatch_is_pending(settings: Settings) -> None:
    with Client(settings=settings) as client:
        jobs = [client.submit("double", [number]) for number in range(50)]
        status = jobs[-1].status()
    assert status.state == "queued"
    assert status.waiting is not None
    assert status.waiting.code == "dispatch_pending"


def test_a_process_that_has_pushed_nothing_finds_out_that_redis_is_silent(
    settings: Settings, database: Database
) -> None:
    with Client(settings=settings) as client:
        id = client.submit("double", [1]).id
    with database.transaction() as cursor:
        cursor.execute("UPDATE jobs SET enqueued_at = now() - interval '1 minute'")
    with Client(settings=settings) as another:
        waiting = another.job(id).status().waiting
    assert waiting is not None
    assert waiting.code == "dispatch_pending"
