"""Durations on the command line: 90s, 15m, 2h, 1d."""

from __future__ import annotations

import re

import click

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd])")


class Duration(click.ParamType[float]):
    """A number and its unit; seconds come of it."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Fails with what may be written."""
        if isinstance(value, float):
            return value
        found = _DURATION.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{value!r}: give a number and s, m, h or d, such as 2h", param, ctx)
        return float(found[1]) * _SECONDS[found[2]]


DURATION = Duration()
