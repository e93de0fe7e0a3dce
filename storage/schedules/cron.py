"""When the windows of a schedule begin: a cron line in a time zone.

The line is read by cronsim, which does at a change of the clocks what Debian's cron does. A line that names
its minute and its hour follows the clock on the wall: in a night that skips the hour it fires once, at the
first instant that exists, and in a night that repeats it, once, the first time. A line with a star in its
minute or its hour follows the time that passes: it fires as often as its interval has passed.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from shunter.storage.errors import InvalidInput

FIELDS = 5


class Cron:
    """A cron line of five fields in an IANA time zone; InvalidInput if it is none, or never fires."""

    def __init__(self, line: str, timezone: str) -> None:
        self._line = line
        self.zone = find_zone(timezone)
        if len(line.split()) != FIELDS:
            raise InvalidInput(
                f"cron is {line!r}: give five fields (minute hour day month weekday), such as '0 2 * * *'",
                field="cron",
            )
        try:
            self._line_from(datetime(2000, 1, 1, tzinfo=UTC), backwards=False)
        except CronSimError as error:
            hint = f"{str(error).lower()}: no time matches it"
            raise InvalidInput(f"cron is {line!r}: {hint}, such as '0 2 * * *' does", field="cron") from error
        if next(self.after(datetime(2000, 1, 1, tzinfo=UTC)), None) is None:
            raise InvalidInput(f"cron is {line!r}, which never fires: no day matches it", field="cron")

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The windows that begin later than a moment, rising, UTC."""
        for found in self._line_from(moment, backwards=False):
            start = found.astimezone(UTC)
            # Started from the second run of a repeated hour, it would tell the first one's again.
            if start > moment:
                yield start

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The windows that begin later than `after`, and not later than `until`, rising."""
        for start in self.after(after):
            if start > until:
                return
            yield start

    def latest(self, moment: datetime) -> datetime | None:
        """The last window that began before or at a moment."""
        for found in self._line_from(moment + timedelta(seconds=1), backwards=True):
            # Backwards it may tell a window twice, or one beyond: the way forward decides.
            start = found.astimezone(UTC)
            if start <= moment:
                return max(self.between(start - timedelta(seconds=1), moment), default=start)
        return None

    def _line_from(self, moment: datetime, *, backwards: bool) -> CronSim:
        return CronSim(self._line, moment.astimezone(self.zone), reverse=backwards)


def find_zone(name: str) -> ZoneInfo:
    """A time zone by its IANA name; InvalidInput."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        near = difflib.get_close_matches(name, available_timezones(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else "give an IANA name, such as Europe/Berlin or UTC"
        raise InvalidInput(
            f"timezone is {name!r}, and there is none of this name: {hint}", field="timezone"
        ) from error
