"""Real English text that every machine has: paragraphs of the standard library's docstrings."""

from __future__ import annotations

import ast
import inspect
import sysconfig
from collections.abc import Iterator
from pathlib import Path

FEWEST_WORDS = 4


def paragraphs(count: int) -> list[str]:
    """`count` different paragraphs, from the standard library's modules in the order of their names."""
    found: dict[str, None] = {}
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("[!_]*.py")):
        for docstring in _docstrings(path):
            for paragraph in docstring.split("\n\n"):
                text = " ".join(paragraph.split())
                if len(text.split()) >= FEWEST_WORDS:
                    found.setdefault(text)
        if len(found) >= count:
            break
    return list(found)[:count]


def _docstrings(path: Path) -> Iterator[str]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(path.read_bytes())):
        docstring = ast.get_docstring(node, clean=False) if isinstance(node, documented) else None
        if docstring:
            yield inspect.cleandoc(docstring)
