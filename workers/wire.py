"""What a hub needs of Celery, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from shunter.workers.envelope_log import TaskEvent


class Wire(Protocol):
    """The hub's wire to Celery; every call returns at once and may come from any thread."""

    def tell(self, events: Sequence[TaskEvent]) -> None:
        """What became of envelopes, as task events."""

    def listens(self) -> bool:
        """Whether anybody hears task events."""

    def queues(self) -> frozenset[str]:
        """The inference queues that this worker serves now."""

    def serve(self, queue: str) -> None:
        """Begin to consume a queue."""

    def leave(self, queue: str) -> None:
        """Consume a queue no longer."""
