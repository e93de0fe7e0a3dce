"""What stands in for a row that cannot be read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that no model can be given, and why."""

    code: str
    message: str
