"""How a worker ends: what it has begun may finish for a while, the rest goes back; pure."""

from __future__ import annotations

DRAIN_GRACE_S = 25.0
"""What has not finished so long after SIGTERM goes back to the queue."""

LAST_GRACE_S = 3.0
"""And so long is waited for Postgres to take that."""


class Draining:
    """When a drain has begun, and when it must be over; `now` is a moment of one clock."""

    def __init__(self) -> None:
        self._deadline: float | None = None

    @property
    def begun(self) -> bool:
        """Whether the worker is about to end."""
        return self._deadline is not None

    def begin(self, now: float) -> None:
        """The worker is to end."""
        self._deadline = now + DRAIN_GRACE_S

    def hurry(self, now: float) -> None:
        """It was told so again: what still runs is overdue at once."""
        assert self._deadline is not None, "only a drain that has begun can hurry; this is a bug"
        self._deadline = min(self._deadline, now)

    def overdue(self, now: float) -> bool:
        """Whether what still runs must be ended."""
        return self._deadline is not None and now > self._deadline

    def over(self, now: float, *, idle: bool) -> bool:
        """Whether nothing is waited for any more; what Postgres has not taken by then is the rescuer's."""
        return self._deadline is not None and (idle or now > self._deadline + LAST_GRACE_S)
