"""Models as they stand in Postgres."""

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from shunter.storage.database import Database
from shunter.storage.errors import UnknownModel
from shunter.storage.model_config import ModelConfig
from shunter.storage.model_registry import (
    FRESH_S,
    KnownModels,
    ModelRegistry,
    ModelVersion,
    describe,
    scan,
)
from tests.engine_process import write_model


@pytest.fixture
def registry(database_url: str) -> Iterator[ModelRegistry]:
    with closing(Database(database_url)) as database:
        yield ModelRegistry(database)


def test_what_is_registered_is_found_and_the_highest_version_is_the_default(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    for version in (2, 10):
        write_model(tmp_path, f"x = {version}", version=version, config=f"[batching]\nmax_rows = {version}")
    versions, _ = scan(tmp_path)
    registry.register(versions)
    registry.register(versions)
    assert [(model.name, model.version) for model in registry.list()] == [("tiny", 2), ("tiny", 10)]
    assert registry.get("tiny").version == 10
    found = registry.get("tiny", 2)
    assert (found.config, found.digest) == (versions[0].config, versions[0].digest)


def test_an_unknown_model_or_version_names_the_nearest(registry: ModelRegistry, tmp_path: Path) -> None:
    registry.register([describe(write_model(tmp_path))])
    with pytest.raises(UnknownModel, match=r"did you mean 'tiny'.*registers a new directory within seconds"):
        registry.get("tinny")
    with pytest.raises(UnknownModel, match="has no version 2: it has 1"):
        registry.get("tiny", 2)


def test_changed_files_are_registered_and_logged(
    registry: ModelRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = write_model(tmp_path, "x = 1")
    registry.register([describe(directory)])
    (directory / "model.py").write_text("x = 2")
    with caplog.at_level(logging.WARNING):
        registry.register([describe(directory)])
    assert registry.get("tiny").digest == describe(directory).digest
    assert "publish changes as a new version" in caplog.text


def test_known_models_are_read_again_when_they_grow_old(registry: ModelRegistry, tmp_path: Path) -> None:
    now = [0.0]
    first, second = (ModelVersion("digits", version, tmp_path, ModelConfig(), "d") for version in (1, 2))
    registry.register([first])
    known = KnownModels(registry, clock=lambda: now[0])
    assert known.get("digits").version == 1
    registry.register([second])
    assert (known.get("digits").version, known.get("digits", 2).version) == (1, 2), "named, it is looked up"
    now[0] = FRESH_S + 0.1
    assert known.get("digits").version == 2
    with pytest.raises(UnknownModel, match="no model is called"):
        known.get("didgits")
