"""Many threads submit at once: every job is stored, and every envelope pushed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from shunter import Client
from shunter.storage.database import Database
from shunter.storage.envelope import decode
from shunter.storage.ids import new_id
from shunter.storage.job import Priority
from shunter.storage.model_config import ModelConfig
from shunter.storage.model_registry import ModelRegistry, ModelVersion
from shunter.storage.settings import Settings
from shunter.workers.lists import Lists
from shunter.workers.room import ClassRoom

THREADS = 32


@pytest.fixture
def settings(tmp_path: Path, database_url: str, redis_url: str) -> Settings:
    database = Database(database_url)
    ModelRegistry(database).register([ModelVersion("digits", 1, tmp_path, ModelConfig(), str(new_id()))])
    database.close()
    return Settings(database_url=database_url, redis_url=redis_url, object_store=f"file://{tmp_path}/objects")


def test_each_job_of_many_threads_has_its_envelope(settings: Settings, redis_url: str) -> None:
    with Client(settings=settings) as client, ThreadPoolExecutor(THREADS) as threads:
        single = list(threads.map(lambda n: client.submit("digits", [n]), range(200)))
        keyed = list(
            threads.map(
                lambda n: client.submit("digits", [n % 50], idempotency_key=f"key-{n % 50}"), range(200)
            )
        )
    with closing(Lists(redis_url)) as lists:
        bunch = lists.fetch({"infer.digits": dict.fromkeys(Priority, ClassRoom(10_000, 0))})
    assert bunch is not None
    pushed = [str(id) for _, raw in bunch.entries for id in decode(raw).ids]
    assert sorted(pushed) == sorted({job.id for job in (*single, *keyed)})
    assert len({job.id for job in keyed}) == 50
