"""Every block of the documents is run, in their order, in one directory, beside one fleet."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.acceptance.up import Up, running_up
from tests.documents import DOCUMENTS, ROOT, Block, runnable

# The fleet of the test runs already: `shunter up` only waits until it serves what lies in models/.
PRELUDE = """
set -eu -o pipefail
pip() { :; }
python() { command "$PYTHON" -P "$@"; }
curl() { command curl --fail-with-body "${@//localhost:8000/$API}"; }
shunter() {
  if [ "$1" = up ]; then
    there=$(ls -d models/*/[0-9]* | wc -l)
    until [ "$(command shunter models list --json | grep -c '"engine": "')" -ge "$there" ]; do sleep 0.1; done
  else command shunter "$@"; fi
}
"""

BLOCK_WITHIN_S = 60

PLUGIN = {"PYTEST_ADDOPTS": "-p shunter.pytest_plugin -p no:cacheprovider"}
"""An installed Shunter registers its plugin; a checkout on the path need not."""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    directory = tmp_path_factory.mktemp("documents")
    shutil.copytree(ROOT / "examples", directory / "examples")
    binaries = directory / "bin"
    binaries.mkdir()
    (binaries / "shunter").write_text(f'#!/bin/sh\nexec {sys.executable} -P -m shunter "$@"\n')
    (binaries / "shunter").chmod(0o755)
    with running_up(directory) as up:
        yield up


def run(up: Up, block: Block, names: dict[str, str]) -> None:
    """Run one block, and say which it was if it fails."""
    code = block.code
    for name, value in names.items():
        code = code.replace(name, value)
    command = ["bash", "-c", PRELUDE + code] if block.language == "sh" else [sys.executable, "-P", "-c", code]
    path = f"{up.directory / 'bin'}{os.pathsep}{os.environ['PATH']}"
    api = up.wait_until_ready()["api"].removeprefix("http://")
    ran = subprocess.run(
        command,
        cwd=up.directory,
        env={**os.environ, **up.exports(), **PLUGIN, "PATH": path, "API": api, "PYTHON": sys.executable},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BLOCK_WITHIN_S,
        check=False,
    )
    assert ran.returncode == 0, f"{block.place}:\n{ran.stdout}\n{ran.stderr}"
    check_printed(block, ran.stdout)


def check_printed(block: Block, printed: str) -> None:
    """A `print(...)  # text` of a Python block has printed that text."""
    for line in block.code.splitlines() if block.language == "python" else ():
        call, _, told = line.partition("  # ")
        if told and call.strip().startswith("print("):
            assert told in printed, f"{block.place}: {line!r} printed\n{printed}"


DOCUMENTS_WITH_CODE = [str(path.relative_to(ROOT)) for path in DOCUMENTS if runnable(path)]


@pytest.mark.parametrize("document", DOCUMENTS_WITH_CODE)
def test_the_blocks_of_a_document_run(up: Up, document: str) -> None:
    names: dict[str, str] = {}
    for block in runnable(ROOT / document):
        if "JOB_ID" in block.code and not names:
            names["JOB_ID"] = up.command("submit", "double", "--row", "1").stdout.strip()
        run(up, block, names)
