"""A worker's engines: one per model version, started at its first job, replaced when it dies."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

from shunter.storage.batch_report import join_key
from shunter.storage.ceiling import Ceiling, RaisedCeiling
from shunter.storage.job import Claim, Priority
from shunter.storage.model_registry import ModelVersion
from shunter.storage.outcome import Outcome
from shunter.storage.worker_registry import Serving
from shunter.workers import messages, retry, verdicts
from shunter.workers.endings import Endings
from shunter.workers.engine_handle import EngineGone, EngineHandle, EngineMail
from shunter.workers.holdings import CHUNKS_AHEAD, Held, Holdings, ModelKey, credit_rows
from shunter.workers.inquest import Inquest
from shunter.workers.pace import Pace
from shunter.workers.places import Places
from shunter.workers.standing import standing
from shunter.workers.stats import BatchStats

log = logging.getLogger(__name__)


class EngineRoom:
    """Hands jobs to engines and makes outcomes of what they say, or of how they die.

    `settle` takes each job's outcome, `accuse` the claims that were in an engine's hands at its death,
    `remember` what did not fit in memory, or does after all. `ceilings` are told to each engine as it starts.
    Only the hub's own thread calls this.
    """

    def __init__(
        self,
        *,
        models: Mapping[ModelKey, ModelVersion],
        holdings: Holdings,
        device: str,
        object_store: str,
        mailbox: Callable[[EngineMail], None],
        settle: Callable[[Held, Outcome], None],
        accuse: Callable[[Sequence[Claim]], None],
        remember: Callable[[ModelKey, Ceiling | RaisedCeiling], None],
        places: Places,
    ) -> None:
        self._models = models
        self._holdings = holdings
        self._device = device
        self._object_store = object_store
        self._mailbox = mailbox
        self._remember = remember
        self.ceilings: dict[ModelKey, tuple[Ceiling, ...]] = {}
        self._engines: dict[ModelKey, EngineHandle] = {}
        self._failures: dict[ModelKey, str] = {}
        self._stats: dict[ModelKey, BatchStats] = defaultdict(lambda: BatchStats(time.monotonic()))
        self._paces: dict[ModelKey, Pace] = defaultdict(Pace)
        self._inquest = Inquest(holdings, accuse)
        self._endings = Endings(self._inquest, settle)
        self._places = places
        self._ending = False

    @property
    def empty(self) -> bool:
        """Whether no engine runs."""
        return not self._engines

    def held(self, key: ModelKey) -> tuple[int, Mapping[Priority, int]]:
        """How many rows of a model version the worker may hold, and how many it holds of each class.

        Without an engine that is one batch, so that other workers of the pool may take the rest. Jobs with
        suspects count nothing: they wait for probes, between which there is room for others.
        """
        limits, engine = self._models[key].config.batching, self._engines.get(key)
        runs = engine is not None and not engine.stopping
        credit = credit_rows(limits, self._pace(key)) if runs else limits.max_rows
        apart = self._inquest.suspects(key)
        return credit, self._holdings.rows(key, chunk_rows=credit // CHUNKS_AHEAD + 1, apart=apart)

    def _pace(self, key: ModelKey) -> float:
        engine, pace = self._engines.get(key), self._paces[key]
        busy = engine is not None and engine.loaded and self._holdings.busy(key)
        pace.look(self._holdings.gone(key), busy=busy, now=time.monotonic())
        return pace.rows_per_s

    def serving(self) -> tuple[Serving, ...]:
        """What the worker serves, and how each model version is."""
        now = time.monotonic()
        return tuple(
            standing(key, self._engines.get(key), self._places, failure=self._failures.get(key), now=now)
            for key in self._models
        )

    def stats(self) -> dict[str, object]:
        """The batches of each model version."""
        now = time.monotonic()
        return {join_key(*key): self._stats[key].document(now) for key in self._models}

    def hand_over(self, held: Sequence[Held]) -> None:
        """Give claimed jobs to their engines; without one they wait until `arrange` starts it."""
        for key, together in groupby(held, attrgetter("key")):
            jobs = [job for job in together if not self._has_cost_too_much(job)]
            engine = self._engines.get(key)
            if key not in self._models:
                for job in jobs:
                    self._endings.give_back(job)
            elif engine is None or engine.stopping:
                self._wait_for_a_place(key, jobs)
            else:
                self._run(engine, jobs)

    def arrange(self, now: float) -> None:
        """Start the engines whose turn it is, and stop those that make room for them."""
        if self._ending:
            return
        choice = self._places.choose(now, self._holdings.busy)
        for key in choice.unload:
            self._unload(key)
        for key in choice.load:
            self._start(key, now)
        for key, refusal in self._places.outgrown().items():
            self._engines[key].kill(refusal)

    def withdraw(self, key: ModelKey) -> None:
        """A model version is served no longer: what has begun is finished, the rest goes back."""
        self._places.forget(key)
        if key in self._engines:
            self._unload(key)
        else:
            self._return(key)

    def flush(self) -> None:
        """Tell the engines what there is to tell them."""
        for engine in self._engines.values():
            engine.flush()

    def drop(self, held: Held) -> None:
        """A job is no longer ours to run."""
        self._inquest.forget(held)
        engine = self._engines.get(held.key)
        if engine is not None:
            engine.send(messages.Drop(held.claim))

    def heard(self, engine: EngineHandle, message: messages.ToHub) -> None:
        """An engine has said something."""
        match message:
            case messages.Begun():
                self._begun(engine, message)
            case messages.Loaded(load_s):
                engine.loaded = True
                log.info("%s is loaded in %.2f s", engine.name, load_s)
                self._failures.pop(engine.key, None)
                self._places.loaded(engine.key, load_s, time.monotonic())
                self._search(engine)
            case messages.LoadFailed(reason):
                engine.verdict = engine.verdict or reason
            case messages.BatchDone():
                self._stats[engine.key].add(message, time.monotonic())
            case messages.Costs(sizing):
                self._stats[engine.key].sizing = sizing
            case messages.MemoryFull() | messages.MemoryFits():
                self._learn(engine, message)
            case messages.Probed():
                self._inquest.probed(engine.key)
                self._probe(engine)
            case messages.Finished(outcomes):
                for outcome in outcomes:
                    self._finished(engine, outcome)

    def gone(self, mail: EngineGone) -> None:
        """An engine has ended: its unfinished jobs go back, fail, or are given to a new one."""
        engine = mail.engine
        engine.close()
        if self._engines.get(engine.key) is engine:
            del self._engines[engine.key]
            self._places.gone(engine.key)
        unfinished = self._holdings.unfinished(engine.key)
        # One that dies while it makes room has a culprit like any other.
        stopped = self._ending or (engine.stopping and mail.returncode == 0)
        refusal = self._places.refusal(engine.key)
        if engine.loaded and not (stopped or refusal):
            self._died(engine, unfinished, mail.returncode)
            return
        self._inquest.engine_ended(engine.key)
        if stopped:
            self._return(engine.key)
        elif refusal:
            for held in unfinished:
                self._endings.refuse(held, engine.model, "model_too_large", refusal)
        else:
            self._load_failed(engine, unfinished, mail.returncode)

    def kill_overdue(self, now: float) -> None:
        """End engines that have been at one thing for too long."""
        for engine in self._engines.values():
            engine.kill_overdue(now)

    def stop(self) -> None:
        """Have every engine finish what it has begun, and end; jobs without an engine go back."""
        self._ending = True
        for key in self._models:
            if key not in self._engines:
                self._return(key)
        for engine in self._engines.values():
            engine.stop()

    def kill(self, verdict: str) -> None:
        """End every engine at once."""
        for engine in self._engines.values():
            engine.kill(verdict)

    def _has_cost_too_much(self, held: Held) -> bool:
        """Whether a job has killed too many engines; then it ends."""
        deaths = self._inquest.deaths(held)
        if deaths < retry.MAX_DEATHS:
            return False
        self._endings.end(held, verdicts.of_deaths(held.job, deaths))
        return True

    def _wait_for_a_place(self, key: ModelKey, jobs: Sequence[Held]) -> None:
        model = self._models[key]
        if jobs:
            self._places.want(key, model.directory, time.monotonic())
        refusal = self._places.refusal(key)
        if refusal is not None:
            for job in jobs:
                self._endings.refuse(job, model, "model_too_large", refusal)

    def _start(self, key: ModelKey, now: float) -> None:
        waiting = self._holdings.unfinished(key)
        if not waiting:
            self._places.withdraw(key)
            return
        log.info("starting an engine for %s v%d on %s", *key, self._device)
        engine = EngineHandle(
            self._models[key], self._device, self._object_store, self.ceilings.get(key, ()), self._mailbox
        )
        self._engines[key] = engine
        self._places.started(key, engine.pid, now)
        self._run(engine, [held for held in waiting if not self._inquest.is_suspect(held)])

    def _run(self, engine: EngineHandle, jobs: Sequence[Held]) -> None:
        engine.send(*self._inquest.runs_of(engine.key, jobs, time.monotonic()))

    def _search(self, engine: EngineHandle) -> None:
        """Give an engine the jobs with suspects, and the first probes.

        Once it is loaded: what has been claimed meanwhile goes first, since it waited for nothing it did.
        """
        unfinished = self._holdings.unfinished(engine.key)
        self._run(engine, [held for held in unfinished if self._inquest.is_suspect(held)])
        self._probe(engine)

    def _unload(self, key: ModelKey) -> None:
        log.info("unloading %s v%d", *key)
        self._places.leaving(key)
        self._engines[key].stop()

    def _return(self, key: ModelKey) -> None:
        for held in self._holdings.unfinished(key):
            if self._inquest.has_findings(held) and key in self._models and not self._ending:
                self.hand_over([held])
            else:
                self._endings.give_back(held)

    def _finished(self, engine: EngineHandle, outcome: Outcome) -> None:
        held = self._holdings.get(outcome.id, outcome.epoch)
        if held is not None and not held.finished:
            self._endings.end_run(held, engine.model, outcome)

    def _begun(self, engine: EngineHandle, message: messages.Begun) -> None:
        self._inquest.begun(engine, message, time.monotonic())
        if message.stage == "forward":
            for span in message.spans:
                held = self._holdings.get(*span.claim)
                if held is not None:
                    held.begun = True

    def _learn(self, engine: EngineHandle, message: messages.MemoryFull | messages.MemoryFits) -> None:
        """Keep what an engine has found out about its memory."""
        known = self.ceilings.get(engine.key, ())
        if isinstance(message, messages.MemoryFull):
            log.warning("%s runs out of memory: %s", engine.name, message.ceiling)
            self.ceilings[engine.key] = (*known, message.ceiling)
            self._remember(engine.key, message.ceiling)
        else:
            log.info("%s fits more than was known: %s", engine.name, message.raised.now)
            self.ceilings[engine.key] = message.raised.applied_to(known)
            self._remember(engine.key, message.raised)

    def _probe(self, engine: EngineHandle) -> None:
        """Have the next suspects tried, unless others still are."""
        engine.send(*self._inquest.next_probes(engine.key))

    def _load_failed(self, engine: EngineHandle, unfinished: Sequence[Held], returncode: int) -> None:
        reason = engine.verdict or f"the engine ended with exit code {returncode} while loading the model"
        log.error("%s cannot be loaded: %s", engine.name, reason)
        self._failures[engine.key] = reason
        for held in unfinished:
            self._endings.refuse(held, engine.model, "model_load_failed", reason)

    def _died(self, engine: EngineHandle, unfinished: Sequence[Held], returncode: int) -> None:
        for held, outcome in self._inquest.died(engine, unfinished, returncode):
            self._endings.end(held, outcome)
        self.hand_over([held for held in unfinished if not held.finished])
