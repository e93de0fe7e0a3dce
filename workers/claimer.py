"""The hub's reading side of Postgres: claims and questions, one at a time, on one thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any
from uuid import UUID

from shunter.storage.envelope import Envelope
from shunter.storage.errors import DatabaseUnavailable
from shunter.storage.job import Claim, ClaimedJob
from shunter.storage.job_repository import JobRepository, Served
from shunter.storage.quarantine import Quarantine

log = logging.getLogger(__name__)

RETRY_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """An envelope in our hands; it leaves Redis by `ack`, or goes back by `requeue`."""

    envelope: Envelope
    ack: Callable[[], None]
    requeue: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Misfit:
    """A message that is no envelope, as raw bytes, with the reason."""

    list_key: str
    raw: bytes
    reason: str
    ack: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Claimed:
    """What became of some deliveries: the jobs that are ours now."""

    deliveries: tuple[Delivery, ...]
    jobs: tuple[ClaimedJob, ...]


@dataclass(frozen=True, slots=True)
class ClaimFailed:
    """Postgres did not answer; the deliveries must go back."""

    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The claims that Postgres believes the worker has; every earlier claim has been reported."""

    held: frozenset[Claim]


@dataclass(frozen=True, slots=True)
class Answering:
    """Postgres answers again."""


@dataclass(frozen=True, slots=True)
class _Take:
    deliveries: tuple[Delivery, ...]
    worker: UUID
    served: Served


@dataclass(frozen=True, slots=True)
class _Reconcile:
    worker: UUID


@dataclass(frozen=True, slots=True)
class _CountDeaths:
    claims: frozenset[Claim]
    worker: UUID


_Request = _Take | _Reconcile | _CountDeaths | Misfit | None


class Claimer:
    """Serves requests in their order, so that a reconciliation never misses a claim under way."""

    def __init__(
        self, repository: JobRepository, quarantine: Quarantine, mailbox: Callable[[Any], None]
    ) -> None:
        self._repository = repository
        self._quarantine = quarantine
        self._mailbox = mailbox
        self._requests: SimpleQueue[_Request] = SimpleQueue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="claimer", daemon=True)
        self._thread.start()

    def take(self, deliveries: Sequence[Delivery], *, worker: UUID, served: Served) -> None:
        """Claim the jobs of these deliveries; Claimed or ClaimFailed follows."""
        self._requests.put(_Take(tuple(deliveries), worker, served))

    def reconcile(self, worker: UUID) -> None:
        """Ask what Postgres believes the worker holds; Reconciled follows if it answers."""
        self._requests.put(_Reconcile(worker))

    def count_deaths(self, claims: Collection[Claim], worker: UUID) -> None:
        """Charge the death of an engine to these jobs."""
        self._requests.put(_CountDeaths(frozenset(claims), worker))

    def quarantine(self, misfit: Misfit) -> None:
        """Keep a message that is no envelope, then let it leave Redis."""
        self._requests.put(misfit)

    def stop(self) -> None:
        """Serve what has been asked, then end."""
        self._stopped.set()
        self._requests.put(None)
        self._thread.join()

    def _loop(self) -> None:
        while (request := self._requests.get()) is not None:
            try:
                self._serve(request)
            except DatabaseUnavailable as error:
                self._give_up(request, error)

    def _serve(self, request: _Request) -> None:
        match request:
            case _Take(deliveries, worker, served):
                hints = {id: delivery.envelope.id for delivery in deliveries for id in delivery.envelope.ids}
                jobs = self._repository.claim(hints, worker=worker, served=served)
                self._mailbox(Claimed(deliveries, tuple(jobs)))
            case _Reconcile(worker):
                self._mailbox(Reconciled(frozenset(self._repository.held(worker))))
            case _CountDeaths(claims, worker):
                self._repository.count_deaths(claims, worker=worker)
            case Misfit(list_key, raw, reason, ack):
                self._quarantine.add(list_key, raw, reason)
                ack()
            case None:
                pass

    def _give_up(self, request: _Request, error: DatabaseUnavailable) -> None:
        log.warning("%s", error)
        if isinstance(request, _Take):
            self._mailbox(ClaimFailed(request.deliveries))
        elif isinstance(request, Misfit | _CountDeaths):
            self._requests.put(request)
        # One answer ends the hub's pause, so keep asking a cheap question until it comes.
        while not self._stopped.wait(RETRY_PAUSE_S):
            try:
                self._repository.ping()
            except DatabaseUnavailable:
                continue
            self._mailbox(Answering())
            return
