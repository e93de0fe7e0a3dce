"""How many rows of a kind fit in a device's memory, as a message and as it is stored."""

from __future__ import annotations

from typing import NamedTuple


class Ceiling(NamedTuple):
    """Batches of a bucket fit only up to `rows` rows, `tokens` of them in all, padding included.

    `device` says what the memory is, not which machine it is in; `tokens` is 0 for a model that counts none.
    """

    device: str
    bucket: str
    rows: int
    tokens: int = 0
