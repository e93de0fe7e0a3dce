"""Amounts of memory as people write and read them."""

from __future__ import annotations

import re

from shunter.storage.errors import SettingsError

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_DECIMAL = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_FACTORS = {**{unit: 1024**power for power, unit in enumerate(_UNITS)}, **_DECIMAL}
_AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)")


def parse_size(text: str) -> int:
    """Bytes in `20GiB`, `512MiB` or `8GB`; SettingsError for anything else, nothing and zero included."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is not None and match[2] in _FACTORS:
        size = int(float(match[1]) * _FACTORS[match[2]])
        if size > 0:
            return size
    raise SettingsError(f"{text!r} is no amount of memory: write a number and a unit, as in 20GiB or 512MiB")


def format_size(size: int) -> str:
    """Bytes in the largest unit of which there is at least one."""
    amount, unit = float(size), _UNITS[0]
    for unit in _UNITS:
        if abs(amount) < 1024 or unit == _UNITS[-1]:
            break
        amount /= 1024
    return f"{amount:.4g} {unit}"
