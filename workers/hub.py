"""The hub: one thread that owns what the worker holds, and decides; others do the IO and report to it.

    fetcher (Redis) -> Bunch ┐              ┌-> claimer (Postgres) -> Claimed, Reconciled
    engines -> FromEngine    ├-> mailbox -> hub
    settler -> Settled       ┘              └-> engines (Run, Drop, Stop), settler (outcomes), fetcher (room)

It handles bytes and ids, never rows or tensors, and knows nothing of Celery, which is behind Wire.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any
from uuid import UUID, uuid4

from shunter.storage.ceiling import Ceiling
from shunter.storage.envelope import queue_name
from shunter.storage.errors import DatabaseUnavailable
from shunter.storage.job import Claim, JobState, Move
from shunter.storage.job_repository import JobRepository
from shunter.storage.memory_ceilings import MemoryCeilings
from shunter.storage.model_registry import ModelVersion
from shunter.storage.outcome import Outcome
from shunter.storage.quarantine import Quarantine
from shunter.storage.worker_registry import NewWorker, WorkerRegistry
from shunter.workers import messages
from shunter.workers.adopter import Adopter
from shunter.workers.claimer import Answering, Claimed, Claimer, ClaimFailed, Reconciled
from shunter.workers.engine_handle import EngineGone, FromEngine
from shunter.workers.engine_room import EngineRoom, returned
from shunter.workers.envelope_log import EnvelopeLog, InHand
from shunter.workers.fetcher import Fetcher
from shunter.workers.heart import GivenUp, Heart, Pulse
from shunter.workers.holdings import Held, Holdings, ModelKey, compare
from shunter.workers.intake import Intake, queues_of, read
from shunter.workers.lists import Bunch, Lists
from shunter.workers.model_watch import ModelsChanged
from shunter.workers.places import Places
from shunter.workers.settler import Settled, Settlement, Settler
from shunter.workers.spans import claims_of
from shunter.workers.wire import Wire

log = logging.getLogger(__name__)

TICK_S = 0.5
MAILS_A_TICK = 100
"""What is due is looked at once for so many mails, if they have come together."""

RECONCILE_INTERVAL_S = 5.0
BEGIN_ANEW_PAUSE_S = 1.0
DRAIN_GRACE_S = 25.0
"""What has not finished so long after SIGTERM goes back to the queue."""

LAST_GRACE_S = 3.0
"""And so long is waited for Postgres to take that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a worker is, to people."""

    name: str
    host: str
    pid: int
    device: str
    pool: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Finish or give back everything, then end; said again, give back at once what has not finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What a hub reads and writes."""

    repository: JobRepository
    registry: WorkerRegistry
    quarantine: Quarantine
    adopter: Adopter
    ceilings: MemoryCeilings
    lists: Lists
    object_store: str


class Hub:
    """A worker's decisions; `start` once, `drain`, then `stop` at the end."""

    def __init__(
        self,
        *,
        identity: Identity,
        models: Sequence[ModelVersion],
        services: Services,
        wire: Wire,
        places: Places,
    ) -> None:
        self._identity = identity
        self._services = services
        self._wire = wire
        self._places = places
        self._models: dict[ModelKey, ModelVersion] = {(m.name, m.version): m for m in models}
        self._mailbox: SimpleQueue[Any] = SimpleQueue()
        self._handlers: dict[type, Callable[[Any], None]] = {
            Bunch: self._on_bunch,
            Claimed: self._on_claimed,
            ClaimFailed: self._on_claim_failed,
            Reconciled: self._on_reconciled,
            Answering: self._on_answering,
            FromEngine: self._on_engine,
            EngineGone: self._on_engine_gone,
            Settled: self._on_settled,
            GivenUp: self._on_given_up,
            ModelsChanged: self._on_models_changed,
            Drain: self._on_drain,
        }
        self._log = EnvelopeLog(wire.listens)
        self._unsettled: list[Settlement] = []
        self._holdings = Holdings()
        self._engines = EngineRoom(
            models=self._models,
            holdings=self._holdings,
            device=identity.device,
            object_store=services.object_store,
            mailbox=self._mailbox.put,
            settle=self._settle,
            accuse=lambda claims: self._claimer.count_deaths(claims, self._incarnation),
            remember=self._remember,
            places=places,
        )
        self._intake = Intake(self._models, self._engines.held)
        self._incarnation = uuid4()
        self._postgres_answers = True
        self._drain_deadline: float | None = None
        self._reconcile_at = 0.0
        self._pulse_at = 0.0
        self._held_before: set[Claim] | None = None
        self._begin_anew_at: float | None = None
        self.drained = threading.Event()

    @property
    def queues(self) -> list[str]:
        """The Celery queues of the models it serves."""
        return sorted({queue_name(name) for name, _ in self._models})

    def in_hand(self) -> list[InHand]:
        """The envelopes in hand; from any thread."""
        return self._log.in_hand()

    def taken(self) -> Counter[str]:
        """How many envelopes of each queue it has run; from any thread."""
        return self._log.taken()

    def start(self) -> None:
        """Register the worker and begin; DatabaseUnavailable if Postgres does not answer."""
        self._register()
        services, mailbox = self._services, self._mailbox.put
        self._engines.ceilings = services.ceilings.all()
        self._claimer = Claimer(
            services.repository,
            services.quarantine,
            services.adopter,
            ceilings=services.ceilings,
            mailbox=mailbox,
        )
        self._heart = Heart(services.registry, self._pulse(), mailbox)
        self._fetcher = Fetcher(services.lists, self._wire.queues, mailbox)
        self._settler = Settler(services.repository, services.lists, mailbox, announce=self._fetcher.announce)
        self._thread = threading.Thread(target=self._loop, name="hub", daemon=True)
        self._thread.start()

    def models_changed(self, mail: ModelsChanged) -> None:
        """Serve what is new, and no longer what is gone; from any thread."""
        self._mailbox.put(mail)

    def drain(self) -> None:
        """Begin to end; `drained` is set when nothing is held any more. Called again, it hurries."""
        self._mailbox.put(Drain())

    def stop(self) -> None:
        """Close the threads and the worker's registration; what is still held goes to others."""
        self._engines.kill("the worker ends")
        self.drained.set()
        self._thread.join()
        self._fetcher.stop()
        self._claimer.stop()
        self._settler.stop(DRAIN_GRACE_S)
        self._heart.stop()
        try:
            self._services.registry.end([self._incarnation])
        except DatabaseUnavailable as error:
            log.warning("the fleet will notice by the silence that this worker ended: %s", error)

    def _loop(self) -> None:
        while not self.drained.is_set():
            with contextlib.suppress(Empty):
                self._handle(self._mailbox.get(timeout=TICK_S))
                for _ in range(MAILS_A_TICK):
                    self._handle(self._mailbox.get_nowait())
            # Before the duties of the tick, so that nobody waits for them.
            self._flush()
            self._tick(time.monotonic())
            self._flush()

    def _flush(self) -> None:
        """Pass on what all those mails came to: what goes together costs each thread one awakening."""
        self._engines.flush()
        if self._unsettled:
            unsettled, self._unsettled = self._unsettled, []
            self._settler.settle(unsettled)

    def _handle(self, mail: Any) -> None:
        self._handlers[type(mail)](mail)

    def _tick(self, now: float) -> None:
        if self._begin_anew_at is not None and now >= self._begin_anew_at:
            self._begin_anew(now)
        self._fetcher.grant(self._intake.rooms() if self._takes else {})
        self._engines.kill_overdue(now)
        self._engines.arrange(now)
        if now >= self._reconcile_at and self._postgres_answers and self._held_before is None:
            self._reconcile_at = now + RECONCILE_INTERVAL_S
            self._held_before = self._holdings.claims()
            self._claimer.reconcile(self._incarnation)
        if now >= self._pulse_at:
            self._pulse_at = now + TICK_S
            self._heart.pulse = self._pulse()
        if self._drain_deadline is not None:
            self._go_on_draining(now)

    @property
    def _takes(self) -> bool:
        return self._postgres_answers and self._drain_deadline is None and self._begin_anew_at is None

    def _on_bunch(self, bunch: Bunch) -> None:
        queues = queues_of(bunch)
        if not self._takes:
            self._fetcher.grant({})
            self._fetcher.refuse(bunch)
            self._fetcher.seen(queues)
            return
        mail = read(bunch)
        self._fetcher.seen(queues)
        self._intake.claim(mail)
        self._claimer.take(mail, worker=self._incarnation, served=list(self._models))
        now = time.time()
        self._wire.tell(self._log.received(mail, now))

    def _on_claimed(self, mail: Claimed) -> None:
        self._intake.claimed(mail.bunch)
        self._log.arrived(mail.bunch.key)
        self._fetcher.ack(mail.bunch)
        ours = {job.id for job in mail.jobs}
        now = time.time()
        events = []
        for refusal in mail.refused:
            events += self._log.refused(refusal.submission.id, refusal.reason, now)
        for envelope in mail.envelopes:
            events += self._log.claimed(envelope, ours.intersection(envelope.ids), now)
        self._wire.tell(events)
        for job in mail.jobs:
            held = self._holdings.add(job)
            if self._drain_deadline is None:
                self._engines.hand_over(held)
            else:
                self._settle(held, returned(held.claim))

    def _on_claim_failed(self, mail: ClaimFailed) -> None:
        self._postgres_answers = False
        self._intake.claimed(mail.mail.bunch)
        self._fetcher.refuse(mail.mail.bunch)
        now = time.time()
        self._wire.tell(self._log.gone_back(mail.mail, now))

    def _on_answering(self, mail: Answering) -> None:
        self._postgres_answers = True
        # A question asked during the outage was never answered.
        self._held_before = None

    def _on_reconciled(self, mail: Reconciled) -> None:
        before, self._held_before = self._held_before or set(), None
        difference = compare(before, mail.held, self._holdings.claims())
        for claim in difference.lost:
            held = self._holdings.get(claim)
            if held is not None and not held.finished:
                self._let_go(held)
        for claim in difference.unknown:
            # The reply to our claim was lost: nobody else will run this job while we live.
            log.warning("job %s was claimed without our knowing and goes back", claim.id)
            self._unsettled.append(Settlement(returned(claim), self._incarnation))

    def _let_go(self, held: Held) -> None:
        self._engines.drop(held)
        self._holdings.remove(held.job.id)
        lost = Outcome(id=held.job.id, epoch=held.job.epoch, move=Move.CANCEL, state=JobState.CANCELLED)
        self._wire.tell(self._log.settled(lost, time.time()))

    def _on_engine(self, mail: FromEngine) -> None:
        if isinstance(mail.message, messages.Begun):
            ids = [claim.id for claim in claims_of(mail.message.spans)]
            self._wire.tell(self._log.begun(ids, time.time()))
        self._engines.heard(mail.engine, mail.message)

    def _on_engine_gone(self, mail: EngineGone) -> None:
        self._engines.gone(mail)

    def _settle(self, held: Held, outcome: Outcome) -> None:
        held.finished = True
        self._unsettled.append(Settlement(outcome, self._incarnation))

    def _remember(self, key: ModelKey, ceiling: Ceiling) -> None:
        self._claimer.record_ceiling(key, ceiling)

    def _on_settled(self, mail: Settled) -> None:
        events, now = [], time.time()
        for settlement in mail.settlements:
            outcome = settlement.outcome
            if outcome.id not in mail.written:
                log.info("job %s is no longer ours: its outcome was refused", outcome.id)
            events += self._log.settled(outcome, now)
            if self._holdings.get(Claim(outcome.id, outcome.epoch)) is not None:
                self._holdings.remove(outcome.id)
        self._wire.tell(events)

    def _on_given_up(self, mail: GivenUp) -> None:
        if mail.incarnation != self._incarnation:
            return
        log.error("the fleet gave this worker up: it drops %d jobs and begins anew", len(self._holdings))
        for held in self._holdings.unfinished():
            self._let_go(held)
        self._holdings.clear()
        self._begin_anew_at = 0.0

    def _begin_anew(self, now: float) -> None:
        try:
            self._register()
            self._begin_anew_at = None
        except DatabaseUnavailable as error:
            log.warning("cannot begin anew yet: %s", error)
            self._begin_anew_at = now + BEGIN_ANEW_PAUSE_S

    def _register(self) -> None:
        fresh: UUID = uuid4()
        identity = self._identity
        self._services.registry.register(
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
        self._incarnation = fresh

    def _pulse(self) -> Pulse:
        state = "ready" if self._drain_deadline is None else "draining"
        return Pulse(
            self._incarnation,
            state,
            self._engines.serving(),
            self._engines.stats(),
            memory_bytes=self._places.used,
        )

    def _on_models_changed(self, mail: ModelsChanged) -> None:
        if self._drain_deadline is not None:
            return
        before = set(self.queues)
        for key in mail.removed:
            if self._models.pop(key, None) is not None:
                log.warning("%s version %d was removed from the models: it is served no longer", *key)
                self._engines.withdraw(key)
        for model in mail.added:
            log.info("%s version %d was published: it is served from now on", model.name, model.version)
            self._models[model.name, model.version] = model
        after = set(self.queues)
        for queue in after - before:
            self._wire.serve(queue)
        for queue in before - after:
            self._wire.leave(queue)

    def _on_drain(self, mail: Drain) -> None:
        if self._drain_deadline is not None:
            self._drain_deadline = min(self._drain_deadline, time.monotonic())
            return
        self._drain_deadline = time.monotonic() + DRAIN_GRACE_S
        self._engines.stop()

    def _go_on_draining(self, now: float) -> None:
        assert self._drain_deadline is not None
        if now > self._drain_deadline:
            self._engines.kill("the drain took too long")
        idle = self._engines.empty and not self._intake.claiming and not len(self._holdings)
        # What Postgres does not take by then is the rescuer's.
        if idle or now > self._drain_deadline + LAST_GRACE_S:
            self.drained.set()
