"""What a look at the models directory finds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shunter.storage.errors import ModelConfigError, SettingsError
from shunter.workers.model_watch import ModelsChanged, ModelsDirectory
from tests.engine_process import DOUBLE, write_model


def keys(changed: ModelsChanged | None) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """What was added, and what was removed."""
    assert changed is not None
    return [(model.name, model.version) for model in changed.added], list(changed.removed)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    write_model(tmp_path, DOUBLE, name="first")
    return tmp_path


def test_nothing_has_changed_while_nothing_changes(models: Path) -> None:
    directory = ModelsDirectory(models)
    assert [model.name for model in directory.read()] == ["first"]
    assert directory.look() is None


def test_a_new_model_and_a_new_version_are_found_once(models: Path) -> None:
    directory = ModelsDirectory(models)
    directory.read()
    write_model(models, DOUBLE, name="second")
    write_model(models, DOUBLE, name="first", version=2)
    assert directory.look() is None, "they may still be on their way"
    assert keys(directory.look()) == ([("first", 2), ("second", 1)], [])
    assert directory.look() is None


def test_a_version_that_is_still_being_copied_is_left_until_it_rests(models: Path) -> None:
    directory = ModelsDirectory(models)
    directory.read()
    path = write_model(models, DOUBLE, name="second")
    directory.look()
    (path / "weights").write_bytes(b"half")
    assert directory.look() is None
    (path / "weights").write_bytes(b"whole weights")
    assert directory.look() is None
    assert keys(directory.look()) == ([("second", 1)], [])


def test_a_removed_version_is_told_and_may_come_back(models: Path) -> None:
    directory = ModelsDirectory(models)
    directory.read()
    shutil.rmtree(models / "first")
    assert keys(directory.look()) == ([], [("first", 1)])
    write_model(models, DOUBLE, name="first")
    directory.look()
    assert keys(directory.look()) == ([("first", 1)], [])


def test_a_version_that_cannot_be_read_is_logged_once_until_it_is_mended(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = ModelsDirectory(models)
    directory.read()
    path = write_model(models, DOUBLE, name="second", config="max_rows = 3")
    for _ in range(4):
        assert directory.look() is None
    assert len([record for record in caplog.records if "max_rows" in record.message]) == 1
    (path / "model.toml").write_text("[batching]\nmax_rows = 3")
    directory.look()
    assert keys(directory.look()) == ([("second", 1)], [])


def test_a_directory_that_cannot_be_listed_removes_nothing(models: Path) -> None:
    directory = ModelsDirectory(models)
    directory.read()
    away = models.rename(models.parent / "away")
    with pytest.raises(ModelConfigError):
        directory.look()
    away.rename(models)
    assert directory.look() is None


def test_names_limit_what_is_served_now_and_later(models: Path) -> None:
    directory = ModelsDirectory(models, ["first"])
    directory.read()
    write_model(models, DOUBLE, name="second")
    write_model(models, DOUBLE, name="first", version=2)
    directory.look()
    assert keys(directory.look()) == ([("first", 2)], [])


def test_an_unknown_name_is_refused_with_the_nearest(models: Path) -> None:
    with pytest.raises(SettingsError, match=r"no model frist in .*: did you mean first\?"):
        ModelsDirectory(models, ["frist"]).read()
    with pytest.raises(SettingsError, match=r"no model zebra in .*: there are first; check --models"):
        ModelsDirectory(models, ["zebra"]).read()
