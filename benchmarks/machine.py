"""Where and with what a measurement was taken."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("shunter", "torch", "numpy", "celery", "kombu", "redis", "hiredis", "psycopg2-binary", "orjson")


def machine() -> dict[str, Any]:
    """Processor, cores, memory, load and system."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "load": os.getloadavg(),
    }


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """The installed versions of what is measured; `-` for what is missing."""
    return {"python": platform.python_version(), **{name: _version(name) for name in packages}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "-"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
