"""A published model, from its author's directory to the table that every host reads."""

from contextlib import closing
from pathlib import Path

import pytest

from shunter.cli import run
from shunter.storage.database import Database
from shunter.storage.model_registry import ModelRegistry, describe


def test_a_published_model_is_registered_at_once(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHUNTER_DATABASE_URL", database_url)
    monkeypatch.setenv("SHUNTER_MODELS", str(tmp_path / "models"))
    work = tmp_path / "work"
    work.mkdir()
    (work / "model.py").write_text("class Model:\n    def forward(self, rows):\n        return rows\n")
    assert run(["models", "publish", "tiny", str(work)]) == 0
    assert run(["models", "publish", "tiny", str(work)]) == 0
    with closing(Database(database_url)) as database:
        found = ModelRegistry(database).get("tiny")
    assert (found.version, found.digest) == (2, describe(tmp_path / "models" / "tiny" / "2").digest)


def test_without_a_database_that_answers_it_is_published_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHUNTER_DATABASE_URL", "postgresql://localhost:1/none")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "model.py").touch()
    assert run(["models", "publish", "tiny", "work"]) == 0
    assert "not registered yet" in capsys.readouterr().err
    assert (tmp_path / "models" / "tiny" / "1" / "model.py").exists()
