"""Returns its rows: what is left is the cost of the fleet itself."""

from __future__ import annotations

from typing import Any


class Model:
    """What Shunter runs."""

    def forward(self, rows: list[Any]) -> list[Any]:
        """The same rows."""
        return rows
