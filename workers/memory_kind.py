"""What a device is, as far as memory goes: the same words for two machines of the same kind."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_GIB = 2**30


def memory_kind(device: str) -> str:
    """The device's kind and the memory that a process may use there, such as "cpu 16 GiB".

    torch is asked for a GPU's name if the model has imported it; otherwise `device` is all that is known.
    """
    if device == "cpu":
        return f"cpu {round(_host_bytes() / _GIB)} GiB"
    torch: Any = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda") or not torch.cuda.is_available():
        return device
    properties = torch.cuda.get_device_properties(device)
    return f"{properties.name} {round(properties.total_memory / _GIB)} GiB"


def _host_bytes() -> int:
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(installed, int(_CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):
        return installed
