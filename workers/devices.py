"""The devices that a worker may run its models on, and what workers are called after them; pure."""

from __future__ import annotations

import re

from shunter.storage.errors import SettingsError
from shunter.storage.worker_registry import DEFAULT_POOL

_DEVICE = re.compile(r"cpu|cuda(?::([0-9]{1,3}))?")


def read_device(text: str) -> str:
    """`cpu` or `cuda:N`, of which `cuda` is the first; SettingsError for anything else."""
    match = _DEVICE.fullmatch(text)
    if match is None:
        raise SettingsError(
            f"{text!r} is no device: write cpu, or cuda:0 for the first GPU", field="--device"
        )
    return "cuda:0" if text == "cuda" else text


def name_after(pool: str, device: str) -> str:
    """`gpu0` or `cpu`, after its pool where it has one: two workers of a host must not share a name."""
    word = device.replace("cuda:", "gpu")
    return word if pool == DEFAULT_POOL else f"{pool}-{word}"
