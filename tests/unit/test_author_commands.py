"""`shunter models new`, `check` and `publish`, without any service."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from shunter.cli import run
from shunter.scaffold import TEMPLATE_NAMES, TEMPLATES
from shunter.storage.errors import Conflict, InvalidInput, ModelConfigError
from shunter.storage.model_directories import MANIFEST
from shunter.storage.model_publishing import publish
from shunter.storage.model_registry import scan

SWAPPING = "class Model:\n    def forward(self, rows):\n        return rows[::-1]\n"
GOOD = "class Model:\n    def forward(self, rows):\n        return rows\n"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "REDIS_URL", "OBJECT_STORE", "MODELS", "DATA", "API_URL", "API_KEY"):
        monkeypatch.delenv(f"SHUNTER_{name}", raising=False)


def write(directory: Path, source: str = GOOD, *, shared: str | None = None) -> Path:
    directory.mkdir(parents=True)
    (directory / "model.py").write_text(source)
    if shared is not None:
        (directory.parent / "model.toml").write_text(shared)
    return directory


def test_check_names_what_is_wrong_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "tiny" / "1")
    write(tmp_path / "tiny" / "2", SWAPPING)
    (tmp_path / "rows.jsonl").write_text("1\n2\n\n3\n")
    assert run(["models", "check", "tiny", "--rows", "rows.jsonl"]) == 1
    told = capsys.readouterr()
    assert "permutes_outputs: in a batch, row 0 gets the output of row 2" in told.out
    assert "check: 3 rows, one by one" in told.err
    assert "1 findings with" in told.err
    assert "/tiny/2" in told.err


def test_check_is_clean_and_gives_json_for_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "tiny" / "1")
    (tmp_path / "rows.json").write_text('["a", {"b": [1.5]}]')
    arguments = ["models", "check", "tiny/1", "--rows", "rows.json", "--max-rows", "2", "--json"]
    assert run(arguments) == 0
    document = orjson.loads(capsys.readouterr().out)
    assert (document["findings"], document["rows"]) == ([], 2)
    assert [timing["rows"] for timing in document["timings"]] == [1, 2]
    assert document["timings"][0].keys() == {"rows", "ms", "us_per_row"}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [("rows.jsonl", "1\nnope\n", "rows.jsonl:2 is not JSON"), ("rows.json", "1", "give an array of rows")],
)
def test_a_bad_row_file_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, name: str, text: str, told: str
) -> None:
    write(tmp_path / "tiny" / "1")
    (tmp_path / name).write_text(text)
    assert run(["models", "check", "tiny", "--rows", name]) == 1
    assert told in capsys.readouterr().err


def test_a_breakpoint_in_the_model_stops_in_this_process(tmp_path: Path) -> None:
    write(tmp_path / "tiny" / "1", GOOD.replace("return", "breakpoint(); return"))
    (tmp_path / "rows.jsonl").write_text("1\n")
    command = [sys.executable, "-P", "-m", "shunter", "models", "check", "tiny", "--rows", "rows.jsonl"]
    told = subprocess.run(command, input="p rows\nq\n", capture_output=True, text=True, check=False)
    assert "(Pdb) [1]" in told.stdout
    assert "Traceback" not in told.stderr
    assert told.returncode == 130


@pytest.mark.parametrize("template", TEMPLATE_NAMES)
def test_a_new_model_runs_at_once(template: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "new", "mine", "--template", template]) == 0
    check, up, submit = capsys.readouterr().out.splitlines()
    assert check == "shunter models check models/mine --rows models/mine/rows.jsonl"
    assert up == "shunter up --models models"
    assert submit.endswith("shunter submit mine --file models/mine/rows.jsonl --wait")
    assert run([*check.split()[1:], "--max-rows", "4"]) == 0, capsys.readouterr().out
    assert not scan(tmp_path / "models").failures


def test_a_template_knows_no_machine() -> None:
    assert b'File "' not in (TEMPLATES / "onnx" / "1" / "model.onnx").read_bytes()


def test_new_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "models" / "mine" / "1")
    assert run(["models", "new", "mine"]) == 1
    assert "models/mine exists: take another name" in capsys.readouterr().err
    assert run(["models", "new", "a b"]) == 1
    assert "'a b' cannot be a model's name" in capsys.readouterr().err


def test_publish_copies_the_next_version_with_a_manifest_that_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "work")
    (source / "weights").mkdir()
    (source / "weights" / "a.bin").write_bytes(b"\0")
    (source / "__pycache__").mkdir()
    for version in (1, 2):
        assert run(["models", "publish", "tiny", "work"]) == 0
        assert capsys.readouterr().out == f"tiny {version} {tmp_path}/models/tiny/{version}\n"
    published = tmp_path / "models" / "tiny" / "2"
    lines = [line.split("  ") for line in (published / MANIFEST).read_text().splitlines()]
    listed = {name: digest for digest, name in lines}
    assert listed.keys() == {"model.py", "weights/a.bin"}
    assert listed["weights/a.bin"] == hashlib.sha256(b"\0").hexdigest()
    assert sorted(path.name for path in published.iterdir()) == [MANIFEST, "model.py", "weights"]
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["tiny"]


def test_a_published_version_can_be_published_again(tmp_path: Path) -> None:
    first = publish(write(tmp_path / "work"), tmp_path / "models", "tiny")
    second = publish(first.directory, tmp_path / "models", "tiny")
    assert (second.version, second.digest) == (2, first.digest)


def test_a_version_that_exists_is_never_replaced(tmp_path: Path) -> None:
    source = write(tmp_path / "work")
    publish(source, tmp_path / "models", "tiny", version=7)
    with pytest.raises(Conflict, match="7 exists, and what is published never changes"):
        publish(source, tmp_path / "models", "tiny", version=7)
    assert publish(source, tmp_path / "models", "tiny").version == 8


def test_shared_settings_come_along_and_never_change_other_versions(tmp_path: Path) -> None:
    models = tmp_path / "models"
    first = write(tmp_path / "one" / "1", shared="[batching]\nmax_rows = 7")
    assert publish(first, models, "tiny").config.batching.max_rows == 7
    assert publish(first, models, "tiny").config.batching.max_rows == 7
    other = write(tmp_path / "other" / "1", shared="[batching]\nmax_rows = 8")
    with pytest.raises(Conflict, match=r"model\.toml differs from"):
        publish(other, models, "tiny")
    (other.parent / "model.toml").rename(other / "model.toml")
    assert publish(other, models, "tiny").config.batching.max_rows == 8


def test_a_copy_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    source = write(tmp_path / "work")
    (source / "weights.bin").symlink_to("nowhere")
    with pytest.raises(InvalidInput, match=r"weights\.bin"):
        publish(source, tmp_path / "models", "tiny")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_directory_without_files_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelConfigError, match="holds no files"):
        publish(tmp_path / "empty", tmp_path / "models", "tiny")
    assert list((tmp_path / "models").iterdir()) == []


def test_publish_with_check_refuses_a_model_with_a_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "work", SWAPPING)
    (tmp_path / "rows.jsonl").write_text("1\n2\n")
    assert run(["models", "publish", "tiny", "work", "--check", "--rows", "rows.jsonl"]) == 1
    told = capsys.readouterr()
    assert "permutes_outputs" in told.out
    assert "is not published: mend it" in told.err
    assert not (tmp_path / "models").exists()
