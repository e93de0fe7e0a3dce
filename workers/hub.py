"""The hub: it owns what the worker holds, and decides, one thread at a time; others do the IO and report.

    fetcher (Redis) -> Bunch ┐              ┌-> claimer (Postgres) -> Claimed, Reconciled
    engines -> FromEngine    ├-> mailbox -> hub
    settler -> Settled       ┘              └-> engines (Run, Drop, Stop), settler (outcomes), fetcher (room)

It handles bytes and ids, never rows or tensors, and knows nothing of Celery, which is behind Wire.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from shunter.storage.ceiling import Ceiling, RaisedCeiling
from shunter.storage.job import Move
from shunter.storage.model_registry import ModelVersion
from shunter.storage.outcome import Outcome
from shunter.workers import messages
from shunter.workers.claimer import Answering, Claimed, Claimer, ClaimFailed, Reconciled
from shunter.workers.draining import DRAIN_GRACE_S, Draining
from shunter.workers.endings import returned
from shunter.workers.engine_handle import EngineGone, EngineMail, FromEngine
from shunter.workers.engine_room import EngineRoom
from shunter.workers.envelope_log import EnvelopeLog, InHand
from shunter.workers.fetcher import Fetcher
from shunter.workers.heart import GivenUp
from shunter.workers.holdings import Held, Holdings, ModelKey
from shunter.workers.intake import Intake, queues_of, read
from shunter.workers.lists import Bunch
from shunter.workers.mailbox import Mailbox
from shunter.workers.membership import Identity, Membership
from shunter.workers.model_watch import ModelsChanged
from shunter.workers.places import Places
from shunter.workers.reconciliation import Reconciliation
from shunter.workers.served_models import ServedModels
from shunter.workers.services import Services
from shunter.workers.settler import Settled, Settlement, Settler
from shunter.workers.teller import Teller
from shunter.workers.wire import Wire

log = logging.getLogger(__name__)

TICK_S = 0.5
MAILS_A_TICK = 100
"""What is due is looked at once for so many mails, if they have come together."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Finish or give back everything, then end; said again, give back at once what has not finished."""


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
        self._services = services
        self._wire = wire
        self._places = places
        self._models = ServedModels(models)
        self._mailbox = Mailbox(self._read, urgent=(Bunch, Claimed, FromEngine, Settled))
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
        self._teller = Teller(self._log, wire)
        self._unsettled: list[Settlement] = []
        self._unacked: list[Bunch] = []
        self._holdings = Holdings()
        self._engines = EngineRoom(
            models=self._models,
            holdings=self._holdings,
            device=identity.device,
            object_store=services.object_store,
            mailbox=self._hear,
            settle=self._settle,
            accuse=lambda claims: self._claimer.count_deaths(claims, self._membership.incarnation),
            remember=self._remember,
            places=places,
        )
        self._intake = Intake(self._models, self._engines.held)
        self._membership = Membership(identity, services.registry, engines=self._engines, places=places)
        self._reconciliation = Reconciliation()
        self._postgres_answers = True
        self._draining = Draining()
        self.drained = threading.Event()

    @property
    def queues(self) -> list[str]:
        """The Celery queues of the models it serves."""
        return self._models.queues

    def in_hand(self) -> list[InHand]:
        """The envelopes in hand; from any thread."""
        return self._log.in_hand()

    def count_started(self) -> int:
        """How many of these have a job in the model; from any thread."""
        return self._log.count_started()

    def taken(self) -> Counter[str]:
        """How many envelopes of each queue it has run; from any thread."""
        return self._log.taken()

    def start(self) -> None:
        """Register the worker and begin; DatabaseUnavailable if Postgres does not answer."""
        services, mailbox = self._services, self._mailbox.put
        self._engines.ceilings = services.ceilings.all()
        self._membership.join(mailbox)
        self._claimer = Claimer(
            services.repository,
            services.quarantine,
            services.adopter,
            ceilings=services.ceilings,
            mailbox=mailbox,
        )
        self._fetcher = Fetcher(services.lists, self._wire.queues, self._receive)
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
        self._mailbox.close()
        self._fetcher.stop()
        self._claimer.stop()
        self._settler.stop(DRAIN_GRACE_S)
        self._membership.leave()

    def _loop(self) -> None:
        while not self.drained.is_set():
            with self._mailbox.turn(TICK_S):
                self._read()
                self._tick(time.monotonic())
                self._flush()

    def _receive(self, bunch: Bunch) -> None:
        """What the fetcher has popped; its thread has nothing better to do than to claim a few jobs."""
        with self._claimer.helped():
            self._mailbox.put(bunch)

    def _hear(self, mail: EngineMail) -> None:
        """What an engine says; with its last word, the thread that listens to it writes the outcomes."""
        with self._settler.helped():
            self._mailbox.put(mail)

    def _read(self) -> bool:
        """Decide about the mail that there is; whether that made work for the next tick."""
        for _ in range(MAILS_A_TICK):
            mail = self._mailbox.take()
            if mail is None:
                break
            self._handle(mail)
        self._flush()
        # Only now, so that nobody waits for it.
        if not (self._claimer.keeps or self._settler.keeps):
            self._fetcher.grant(self._intake.rooms() if self._takes else {})
        return self._places.to_choose or self._draining.begun

    def _flush(self) -> None:
        """Pass on what all those mails came to: what goes together costs each thread one awakening."""
        self._engines.flush()
        if self._unsettled:
            unsettled, self._unsettled = self._unsettled, []
            # Then no engine has anything of which the thread that listens to it would hear too late.
            self._settler.settle(unsettled, last=len(unsettled) == len(self._holdings))
        # Last: the fetcher's thread, awake, would keep the interpreter from this one.
        unacked, self._unacked = self._unacked, []
        for bunch in unacked:
            self._fetcher.ack(bunch)

    def _handle(self, mail: Any) -> None:
        self._handlers[type(mail)](mail)

    def _tick(self, now: float) -> None:
        self._membership.tick(now, draining=self._draining.begun)
        self._engines.kill_overdue(now)
        self._engines.arrange(now)
        if self._postgres_answers and self._reconciliation.due(now):
            self._reconciliation.asked(self._holdings.claims(), now)
            self._claimer.reconcile(self._membership.incarnation)
        if self._draining.begun:
            self._go_on_draining(now)

    @property
    def _takes(self) -> bool:
        return self._postgres_answers and not self._draining.begun and self._membership.stands

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
        self._claimer.take(mail, worker=self._membership.incarnation, served=list(self._models))
        self._teller.received(mail)

    def _on_claimed(self, mail: Claimed) -> None:
        self._intake.claimed(mail.bunch)
        self._unacked.append(mail.bunch)
        self._teller.claimed(mail)
        self._reconciliation.claimed(mail.jobs)
        jobs = [self._holdings.add(job) for job in mail.jobs]
        if self._draining.begun:
            for held in jobs:
                self._settle(held, returned(held.claim))
        else:
            self._engines.hand_over(jobs)

    def _on_claim_failed(self, mail: ClaimFailed) -> None:
        self._postgres_answers = False
        self._intake.claimed(mail.mail.bunch)
        self._fetcher.refuse(mail.mail.bunch)
        self._teller.gone_back(mail.mail)

    def _on_answering(self, mail: Answering) -> None:
        self._postgres_answers = True
        # A question asked during the outage was never answered.
        self._reconciliation.forget()

    def _on_reconciled(self, mail: Reconciled) -> None:
        difference = self._reconciliation.answered(mail.held)
        for claim in difference.lost:
            held = self._holdings.get(*claim)
            if held is not None and not held.finished:
                self._let_go(held)
        for claim in difference.unknown:
            # The reply to our claim was lost: nobody else will run this job while we live.
            log.warning("job %s was claimed without our knowing and goes back", claim.id)
            self._unsettled.append(Settlement(returned(claim), self._membership.incarnation))

    def _let_go(self, held: Held) -> None:
        self._engines.drop(held)
        self._holdings.remove(held.job.id)
        lost = Outcome(id=held.job.id, epoch=held.job.epoch, move=Move.CANCEL)
        self._teller.settled([lost])

    def _on_engine(self, mail: FromEngine) -> None:
        for message in mail.messages:
            if isinstance(message, messages.Begun):
                self._teller.begun(message.spans)
            self._engines.heard(mail.engine, message)

    def _on_engine_gone(self, mail: EngineGone) -> None:
        self._engines.gone(mail)

    def _settle(self, held: Held, outcome: Outcome) -> None:
        held.finished = True
        self._unsettled.append(Settlement(outcome, self._membership.incarnation))

    def _remember(self, key: ModelKey, ceiling: Ceiling | RaisedCeiling) -> None:
        self._claimer.record_ceiling(key, ceiling)

    def _on_settled(self, mail: Settled) -> None:
        self._teller.settled(settlement.outcome for settlement in mail.settlements)
        chunks = False
        for settlement in mail.settlements:
            outcome = settlement.outcome
            if outcome.id not in mail.written:
                log.info("job %s is no longer ours: its outcome was refused", outcome.id)
            held = self._holdings.get(outcome.id, outcome.epoch)
            if held is not None:
                self._holdings.remove(outcome.id)
                chunks |= held.is_chunk
        if chunks:
            self._services.chunk_ended()

    def _on_given_up(self, mail: GivenUp) -> None:
        if not self._membership.given_up(mail):
            return
        log.error("the fleet gave this worker up: it drops %d jobs and begins anew", len(self._holdings))
        for held in self._holdings.unfinished():
            self._let_go(held)
        self._holdings.clear()

    def _on_models_changed(self, mail: ModelsChanged) -> None:
        if self._draining.begun:
            return
        for key in self._models.change(mail, self._wire):
            self._engines.withdraw(key)

    def _on_drain(self, mail: Drain) -> None:
        now = time.monotonic()
        if self._draining.begun:
            self._draining.hurry(now)
        else:
            self._draining.begin(now)
            self._engines.stop()

    def _go_on_draining(self, now: float) -> None:
        if self._draining.overdue(now):
            self._engines.kill("the drain took too long")
        idle = self._engines.empty and not self._intake.claiming and not len(self._holdings)
        if self._draining.over(now, idle=idle):
            self.drained.set()
