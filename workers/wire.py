"""What a hub needs of Celery, and no more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from shunter.workers.envelope_log import TaskEvent


class Wire(Protocol):
    """The hub's wire to Celery; every call returns at once and may come from any thread."""

    def run(self, action: Callable[[], None]) -> None:
        """Do something with a message where messages may be touched, in the order of the calls."""

    def tell(self, events: Sequence[TaskEvent]) -> None:
        """Send task events, if somebody listens."""

    def pause(self, queue: str) -> None:
        """Pop no more from this queue."""

    def resume(self, queue: str) -> None:
        """Pop from this queue again."""
