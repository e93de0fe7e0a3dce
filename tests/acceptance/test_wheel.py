"""What is shipped: the wheel holds every file that the code reads, under one top-level name."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files of a wheel built from a copy of what git would ship."""
    directory = tmp_path_factory.mktemp("wheel")
    source = directory / "source"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(source)], check=True, capture_output=True)
    # What is not committed yet counts too: the test is about this tree.
    changed = subprocess.run(
        ["git", "ls-files", "--modified", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    for name in changed:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(directory),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = directory.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_everything_lies_under_one_name(names: set[str]) -> None:
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"shunter"}


def test_every_file_of_the_packages_is_shipped(names: set[str]) -> None:
    folders = ["storage", "producers", "workers", "migrations"]
    files = {f"shunter/{path.relative_to(ROOT)}" for folder in folders for path in (ROOT / folder).rglob("*")
             if path.is_file() and "__pycache__" not in path.parts}  # fmt: skip
    own = {str(path.relative_to(ROOT)) for path in (ROOT / "shunter").glob("*") if path.is_file()}
    templates = {str(path.relative_to(ROOT)) for path in (ROOT / "shunter" / "templates").rglob("*")
                 if path.is_file() and "__pycache__" not in path.parts}  # fmt: skip
    assert files | own | templates <= names
