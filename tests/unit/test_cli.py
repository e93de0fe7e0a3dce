"""The `shunter` command without any service: help, refusals and how errors are told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from shunter.cli import cli, run

HEAVY = ("alembic", "boto3", "celery", "fastapi", "kombu", "numpy", "rich", "sqlalchemy", "torch")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "REDIS_URL", "OBJECT_STORE", "MODELS", "DATA", "API_URL", "API_KEY"):
        monkeypatch.delenv(f"SHUNTER_{name}", raising=False)


def commands(group: click.Group) -> list[click.Command]:
    found: list[click.Command] = []
    for command in group.commands.values():
        found += [command, *commands(command)] if isinstance(command, click.Group) else [command]
    return found


@pytest.mark.parametrize("command", commands(cli), ids=lambda command: str(command.name))
def test_every_command_teaches_by_an_example(command: click.Command) -> None:
    example = (command.help or "").split("\b\n")[-1]
    assert "shunter " in example


def test_help_is_fast_because_it_imports_nothing_heavy() -> None:
    script = f"import sys, shunter.cli; print([name for name in {HEAVY} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout == "[]\n"


def test_a_missing_setting_is_one_line_that_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "x"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: invalid_settings: SHUNTER_DATABASE_URL and SHUNTER_REDIS_URL and ")
    assert told.err.count("\n") == 1


def test_a_doctor_without_any_setting_is_told_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 1
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["submit"], ["up", "--workers", "0"], ["api", "--port", "x"]]
)
def test_a_wrong_command_line_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert "Error: " in capsys.readouterr().err


def test_rows_come_from_one_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.jsonl").write_text("1\n")
    assert run(["submit", "double", "--row", "1", "--file", "rows.jsonl"]) == 2
    assert "either --row or --file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "place"), [(["--row", "1", "--row", "{"], "--row 2"), (["--file", "rows.jsonl"], "line 3")]
)
def test_a_row_that_is_not_json_is_named(
    arguments: list[str], place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text("1\n\nnope\n")
    assert run(["submit", "double", *arguments]) == 1
    assert capsys.readouterr().err.startswith(f"error: invalid_input: {place} is not JSON ")


def test_bytes_that_are_not_base64_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["submit", "double", "--row", '{"image": {"$bytes": "?"}}']) == 1
    assert "--row 1.image" in capsys.readouterr().err


def test_an_unknown_variable_warns_in_one_line() -> None:
    told = subprocess.run(
        [sys.executable, "-P", "-m", "shunter", "workers"],
        env={**os.environ, "SHUNTER_DATBASE_URL": "postgresql://"},
        capture_output=True,
        text=True,
        check=False,
    )
    warning, error = told.stderr.splitlines()
    assert warning.startswith("warning: SHUNTER_DATBASE_URL is no setting")
    assert error.startswith("error: invalid_settings: ")


def test_env_without_a_running_up_says_how_to_start_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["env", "--data", "somewhere"]) == 1
    start = f"start one with `shunter up --data {tmp_path / 'somewhere'}`"
    assert start in capsys.readouterr().err
    assert not (tmp_path / "somewhere").exists()


def test_an_interrupt_ends_quietly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.commands, "workers", click.Command("workers", callback=interrupted))
    assert run(["workers"]) == 130
    assert "Traceback" not in capsys.readouterr().err
