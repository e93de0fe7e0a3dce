"""Finds server programs: those that were installed with Shunter, then those of the machine."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

VERSION_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class ServerProgram:
    """A program that runs on this machine, and its major version."""

    path: Path
    major: int


def packaged(package: str, pattern: str) -> Iterator[Path]:
    """Programs inside an installed package; its code is not imported, only its files are used."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        yield from sorted(Path(folder).glob(pattern), reverse=True)


def on_path(*names: str) -> Iterator[Path]:
    """Programs of the machine's PATH."""
    for name in names:
        if found := shutil.which(name):
            yield Path(found)


def working(
    candidates: Iterable[Path], version: re.Pattern[str], *, beside: tuple[str, ...] = ()
) -> Iterator[ServerProgram]:
    """The candidates that answer `--version` and have their companions beside them."""
    for path in candidates:
        if not os.access(path, os.X_OK) or not all(os.access(path.parent / name, os.X_OK) for name in beside):
            continue
        if match := version.search(_version_text(path)):
            yield ServerProgram(path, int(match.group(1)))


def _version_text(path: Path) -> str:
    try:
        answer = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout
