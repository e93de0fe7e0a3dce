"""The hub's reading side of Postgres: claims and questions, one at a time, on its thread or the asker's."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any
from uuid import UUID

from shunter.storage import failpoints
from shunter.storage.ceiling import Ceiling, RaisedCeiling
from shunter.storage.envelope import Envelope
from shunter.storage.errors import Unavailable
from shunter.storage.job import Claim, ClaimedJob
from shunter.storage.job_repository import JobRepository, Served
from shunter.storage.memory_ceilings import MemoryCeilings
from shunter.storage.quarantine import Misfit, Quarantine
from shunter.workers.adopter import Adopter, Refusal
from shunter.workers.aside import Aside
from shunter.workers.holdings import ModelKey
from shunter.workers.intake import Mail
from shunter.workers.lists import Bunch

log = logging.getLogger(__name__)

RETRY_PAUSE_S = 1.0

FEW_ENVELOPES = 8
"""To claim the jobs of so few takes hardly more time than to claim one."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """What became of a bunch: its envelopes, adopted ones included, and the jobs that are ours now."""

    bunch: Bunch
    envelopes: tuple[Envelope, ...]
    jobs: tuple[ClaimedJob, ...]
    refused: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class ClaimFailed:
    """A service did not answer; the bunch must go back."""

    mail: Mail


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The claims that Postgres believes the worker has; every earlier claim has been reported."""

    held: frozenset[Claim]


@dataclass(frozen=True, slots=True)
class Answering:
    """Postgres answers again."""


@dataclass(frozen=True, slots=True)
class _Take:
    mail: Mail
    worker: UUID
    served: Served


@dataclass(frozen=True, slots=True)
class _Reconcile:
    worker: UUID


@dataclass(frozen=True, slots=True)
class _CountDeaths:
    claims: frozenset[Claim]
    worker: UUID


@dataclass(frozen=True, slots=True)
class _RecordCeiling:
    key: ModelKey
    ceiling: Ceiling | RaisedCeiling


_Request = _Take | _Reconcile | _CountDeaths | _RecordCeiling | None


class Claimer:
    """Serves requests in their order, so that a reconciliation never misses a claim under way."""

    def __init__(
        self,
        repository: JobRepository,
        quarantine: Quarantine,
        adopter: Adopter,
        *,
        ceilings: MemoryCeilings,
        mailbox: Callable[[Any], None],
    ) -> None:
        self._repository = repository
        self._quarantine = quarantine
        self._adopter = adopter
        self._ceilings = ceilings
        self._mailbox = mailbox
        self._requests: SimpleQueue[_Request] = SimpleQueue()
        self._aside: Aside[_Take] = Aside()
        self._serving = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="claimer", daemon=True)
        self._thread.start()

    def take(self, mail: Mail, *, worker: UUID, served: Served) -> None:
        """Claim the jobs of a bunch; Claimed or ClaimFailed follows."""
        request = _Take(mail, worker, served)
        few = len(mail.bunch.entries) <= FEW_ENVELOPES
        if not (few and self._requests.empty() and self._aside.keep(request)):
            self._requests.put(request)

    def helped(self) -> AbstractContextManager[None]:
        """At the end of the block this thread makes a small claim that it asked for, if no other is made."""
        return self._aside.kept_for(self._serve_here)

    @property
    def keeps(self) -> bool:
        """Whether this thread is about to make a claim: then there will be news at once."""
        return self._aside.keeps

    def reconcile(self, worker: UUID) -> None:
        """Ask what Postgres believes the worker holds; Reconciled follows if it answers."""
        self._requests.put(_Reconcile(worker))

    def count_deaths(self, claims: Collection[Claim], worker: UUID) -> None:
        """Charge the death of an engine to these jobs."""
        self._requests.put(_CountDeaths(frozenset(claims), worker))

    def record_ceiling(self, key: ModelKey, ceiling: Ceiling | RaisedCeiling) -> None:
        """Keep what did not fit in memory, or does after all, for the engines to come."""
        self._requests.put(_RecordCeiling(key, ceiling))

    def stop(self) -> None:
        """Serve what has been asked, then end."""
        self._stopped.set()
        self._requests.put(None)
        self._thread.join()

    def _loop(self) -> None:
        while (request := self._requests.get()) is not None:
            with self._serving:
                try:
                    self._serve(request)
                except Unavailable as error:
                    self._give_up(request, error)

    def _serve_here(self, request: _Take) -> None:
        if self._serving.acquire(blocking=False):
            try:
                self._serve(request)
                return
            except Unavailable as error:
                # The other thread has the time to wait for the end of an outage.
                log.debug("%s", error)
            finally:
                self._serving.release()
        self._requests.put(request)

    def _serve(self, request: _Request) -> None:
        match request:
            case _Take(mail, worker, served):
                self._mailbox(self._take(mail, worker, served))
            case _Reconcile(worker):
                self._mailbox(Reconciled(frozenset(self._repository.held(worker))))
            case _CountDeaths(claims, worker):
                self._repository.count_deaths(claims, worker=worker)
            case _RecordCeiling((model, version), RaisedCeiling() as raised):
                self._ceilings.raise_up(model, version, raised)
            case _RecordCeiling((model, version), Ceiling() as ceiling):
                self._ceilings.record(model, version, ceiling)
            case None:
                pass

    def _take(self, mail: Mail, worker: UUID, served: Served) -> Claimed:
        """Every step may be done again after any other failed: what is done already is left as it is."""
        adopted = self._adopter.adopt(mail.submissions, worker=worker, served=served)
        self._set_aside([*mail.misfits, *(refusal.misfit for refusal in adopted.refused)])
        hints = {id: envelope.id for envelope in mail.envelopes for id in envelope.ids}
        hints.update({id: id for id in adopted.known})
        failpoints.hit("claim.before")
        jobs = self._repository.claim(hints, worker=worker, served=served)
        failpoints.hit("claim.committed")
        own = tuple(submission.envelope() for submission in adopted.accepted)
        return Claimed(mail.bunch, (*mail.envelopes, *own), (*adopted.jobs, *jobs), adopted.refused)

    def _set_aside(self, misfits: Sequence[Misfit]) -> None:
        self._quarantine.add(misfits)
        for misfit in misfits:
            log.error("quarantined a message of %s: %s", misfit.list_key, misfit.reason)

    def _give_up(self, request: _Request, error: Unavailable) -> None:
        log.warning("%s", error)
        if isinstance(request, _Take):
            self._mailbox(ClaimFailed(request.mail))
        elif isinstance(request, _CountDeaths | _RecordCeiling):
            self._requests.put(request)
        # One answer ends the hub's pause, so keep asking a cheap question until it comes.
        while not self._stopped.wait(RETRY_PAUSE_S):
            try:
                self._repository.ping()
            except Unavailable:
                continue
            self._mailbox(Answering())
            return
