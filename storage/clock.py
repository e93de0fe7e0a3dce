"""What time it is for schedules: Postgres' clock, or a file's in tests that cannot wait for twenty nights.

    SHUNTER_TEST_CLOCK=/path/of/a/file      its text is an ISO time with an offset, read anew each time

It counts only in processes of a fleet that is there to be broken, as SHUNTER_FAILPOINTS does.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from shunter.storage import failpoints

if TYPE_CHECKING:
    from shunter.storage.database import Cursor

VARIABLE = "SHUNTER_TEST_CLOCK"


def fleet_time(cursor: Cursor) -> datetime:
    """The same for every process of the fleet, whatever its host's clock says; UTC."""
    file = os.environ.get(VARIABLE)
    if file and os.environ.get(failpoints.CONSENT) == "yes":
        return datetime.fromisoformat(Path(file).read_text()).astimezone(UTC)
    cursor.execute("SELECT now()")
    row = cursor.fetchone()
    assert row is not None, "SELECT now() answers one row; this is a bug"
    now: datetime = row[0]
    return now.astimezone(UTC)
