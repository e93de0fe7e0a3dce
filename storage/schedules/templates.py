"""Places with dates in them: `s3://bucket/{date}/*.parquet` names another folder in each window.

{date}              the window's date in the schedule's time zone, as 2026-01-31
{date:%Y/%m/%d}     the same, written as strftime does
{date-1d}           the day before; +1d is the day after
{window_start}      the instant at which the window begins, in UTC, as 20260131T010000Z
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from shunter.storage.errors import InvalidInput

DATE, WINDOW_START = "date", "window_start"
FORMATS = {DATE: "%Y-%m-%d", WINDOW_START: "%Y%m%dT%H%M%SZ"}

_BRACES = re.compile(r"\{([^{}]*)\}")
_PLACE = re.compile(r"(date|window_start)([+-][0-9]{1,4}d)?(?::([^{}]+))?")


def render(template: str, start: datetime, zone: ZoneInfo, *, field: str) -> str:
    """The place of the window that begins at `start`; InvalidInput for what is no template."""

    def fill(found: re.Match[str]) -> str:
        place = _PLACE.fullmatch(found[1])
        if place is None:
            raise InvalidInput(
                f"{field} has {found[0]}: known are {{date}}, {{date:%Y/%m/%d}}, {{date-1d}} "
                "and {window_start}",
                field=field,
            )
        name, days, format = place.groups()
        moment = start.astimezone(zone if name == DATE else UTC)
        if days:
            moment += timedelta(days=int(days[:-1]))
        return moment.strftime(format or FORMATS[name])

    rendered = _BRACES.sub(fill, template)
    if "{" in rendered or "}" in rendered:
        raise InvalidInput(f"{field} is {template!r}: a brace has no partner", field=field)
    return rendered
