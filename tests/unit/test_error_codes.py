"""Every code that a user can meet is in docs/errors.md, and no other."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import shunter.producers
import shunter.storage
from shunter.storage.errors import ShunterError

ROOT = Path(__file__).parents[2]
CODE = re.compile(
    r'(?:code ?= ?|"code": |RowError\(|Failure\(|Waiting\(|BadRow\(|\.refuse\(held, [^"]+, )\s*'
    r'"([a-z]+(?:_[a-z]+)*)"'
)
EXAMPLES = {"value_error"}
"""What the page names as an example of codes that come from model code."""


def kinds(kind: type[ShunterError]) -> Iterator[type[ShunterError]]:
    yield kind
    for derived in kind.__subclasses__():
        yield from kinds(derived)


def raised() -> set[str]:
    for package in (shunter.storage, shunter.producers):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    return {kind.code for kind in kinds(ShunterError) if kind.__module__.startswith("shunter.")}


def written() -> set[str]:
    folders = ("storage", "producers", "workers")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return {code for path in files for code in CODE.findall(path.read_text())}


def listed() -> set[str]:
    lines = (ROOT / "docs" / "errors.md").read_text().splitlines()
    cells = [line.split("|")[1] for line in lines if line.startswith("| `") or line.startswith("| the name")]
    return {code for cell in cells for code in re.findall(r"`([a-z_]+)`", cell)} - EXAMPLES


def test_every_code_is_told_with_what_to_do_about_it() -> None:
    assert (raised() | written()) - listed() == set()


def test_no_code_is_told_that_does_not_exist() -> None:
    assert listed() - (raised() | written()) == set()
