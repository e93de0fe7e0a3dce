"""A worker's place in the fleet: its incarnation, its heartbeat, and beginning anew once it was given up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID, uuid4

from shunter.storage.errors import DatabaseUnavailable
from shunter.storage.worker_registry import NewWorker, Serving, WorkerRegistry
from shunter.workers.heart import GivenUp, Heart, Pulse
from shunter.workers.places import Places

log = logging.getLogger(__name__)

PULSE_INTERVAL_S = 0.5
BEGIN_ANEW_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a worker is, to people."""

    name: str
    host: str
    pid: int
    device: str
    pool: str


class Standings(Protocol):
    """What the fleet is told of a worker's engines."""

    def serving(self) -> tuple[Serving, ...]:
        """What the worker serves, and how each model version is."""

    def stats(self) -> Mapping[str, object]:
        """The batches of each model version."""


class Membership:
    """Only the hub's own thread calls this, after `join`."""

    def __init__(
        self, identity: Identity, registry: WorkerRegistry, *, engines: Standings, places: Places
    ) -> None:
        self.incarnation: UUID = uuid4()
        self._identity = identity
        self._registry = registry
        self._engines = engines
        self._places = places
        self._begin_anew_at: float | None = None
        self._pulse_at = 0.0

    @property
    def stands(self) -> bool:
        """Whether the fleet knows this incarnation, as far as we have heard."""
        return self._begin_anew_at is None

    def join(self, mailbox: Callable[[Any], None]) -> None:
        """Register and begin to beat; DatabaseUnavailable if Postgres does not answer."""
        self._register()
        self._heart = Heart(self._registry, self._pulse("ready"), mailbox)

    def given_up(self, mail: GivenUp) -> bool:
        """Whether it is us who were given up; then the next tick begins anew."""
        if mail.incarnation != self.incarnation:
            return False
        self._begin_anew_at = 0.0
        return True

    def tick(self, now: float, *, draining: bool) -> None:
        """Register anew if that is due, and tell the heart what there is to tell."""
        if self._begin_anew_at is not None and now >= self._begin_anew_at:
            self._begin_anew(now)
        if now >= self._pulse_at:
            self._pulse_at = now + PULSE_INTERVAL_S
            self._heart.pulse = self._pulse("draining" if draining else "ready")

    def leave(self) -> None:
        """Stop beating, and say so."""
        self._heart.stop()
        try:
            self._registry.end([self.incarnation])
        except DatabaseUnavailable as error:
            log.warning("the fleet will notice by the silence that this worker ended: %s", error)

    def _begin_anew(self, now: float) -> None:
        try:
            self._register()
            self._begin_anew_at = None
        except DatabaseUnavailable as error:
            log.warning("cannot begin anew yet: %s", error)
            self._begin_anew_at = now + BEGIN_ANEW_PAUSE_S

    def _register(self) -> None:
        fresh = uuid4()
        identity = self._identity
        self._registry.register(
            NewWorker(
                incarnation=fresh,
                name=identity.name,
                host=identity.host,
                pid=identity.pid,
                device=identity.device,
                pool=identity.pool,
                memory_budget_bytes=self._places.budget,
                serves=self._engines.serving(),
            )
        )
        self.incarnation = fresh

    def _pulse(self, state: str) -> Pulse:
        return Pulse(
            self.incarnation,
            state,
            self._engines.serving(),
            dict(self._engines.stats()),
            memory_bytes=self._places.used,
        )
