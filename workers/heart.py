"""The hub's heartbeat: a thread and a connection of its own, so that no work can hold it up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from shunter.storage.errors import DatabaseUnavailable
from shunter.storage.worker_registry import BEAT_INTERVAL_S, Serving, WorkerRegistry

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GivenUp:
    """The fleet has declared this incarnation dead: whatever it holds belongs to others now."""

    incarnation: UUID


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a beat says; the hub replaces it as things change."""

    incarnation: UUID
    state: str = "ready"
    serves: tuple[Serving, ...] = ()
    stats: dict[str, Any] = field(default_factory=dict)
    memory_bytes: int | None = None


class Heart:
    """Beats until stopped; a Postgres that does not answer is tried again at the next beat."""

    def __init__(self, registry: WorkerRegistry, pulse: Pulse, mailbox: Callable[[Any], None]) -> None:
        self._registry = registry
        self._mailbox = mailbox
        self.pulse = pulse
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="heart", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop beating."""
        self._stop.set()
        self._thread.join()

    def _loop(self) -> None:
        given_up: UUID | None = None
        silent = False
        while not self._stop.wait(BEAT_INTERVAL_S):
            pulse = self.pulse
            if pulse.incarnation == given_up:
                continue
            try:
                alive = self._registry.beat(
                    pulse.incarnation,
                    state=pulse.state,
                    serves=pulse.serves,
                    stats=pulse.stats,
                    memory_bytes=pulse.memory_bytes,
                )
            except DatabaseUnavailable as error:
                if not silent:
                    log.warning("no heartbeat: %s", error)
                silent = True
                continue
            silent = False
            if not alive:
                given_up = pulse.incarnation
                self._mailbox(GivenUp(pulse.incarnation))
