"""A worker's engines: one per model version, started at its first job, replaced when it dies."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence

from shunter.storage.job import Claim, JobState, Move, Priority
from shunter.storage.model_registry import ModelVersion
from shunter.storage.outcome import Outcome, failed
from shunter.storage.worker_registry import Serving
from shunter.workers import messages, retry
from shunter.workers.engine_handle import EngineGone, EngineHandle, EngineMail
from shunter.workers.holdings import CHUNKS_AHEAD, Held, Holdings, ModelKey, credit_rows
from shunter.workers.stats import BatchStats

log = logging.getLogger(__name__)


class EngineRoom:
    """Hands jobs to engines and makes outcomes of what they say, or of how they die.

    `settle` takes each job's outcome; `accuse` the claims that were in an engine's hands at its death.
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
    ) -> None:
        self._models = models
        self._holdings = holdings
        self._device = device
        self._object_store = object_store
        self._mailbox = mailbox
        self._settle = settle
        self._accuse = accuse
        self._engines: dict[ModelKey, EngineHandle] = {}
        self._failures: dict[ModelKey, str] = {}
        self._stats: dict[ModelKey, BatchStats] = {key: BatchStats() for key in models}

    @property
    def empty(self) -> bool:
        """Whether no engine runs."""
        return not self._engines

    def held(self, key: ModelKey) -> tuple[int, Mapping[Priority, int]]:
        """How many rows of a model version the worker may hold, and how many it holds of each class."""
        credit = credit_rows(self._models[key].config.batching.max_rows, self._stats[key].rows_per_s)
        return credit, self._holdings.rows(key, chunk_rows=credit // CHUNKS_AHEAD + 1)

    def serving(self) -> tuple[Serving, ...]:
        """What the worker serves, and how each model version is."""
        return tuple(self._serving(key) for key in self._models)

    def stats(self) -> dict[str, object]:
        """The batches of each model version."""
        return {f"{name}:{version}": stats.document() for (name, version), stats in self._stats.items()}

    def hand_over(self, held: Held) -> None:
        """Give a claimed job to its engine, which is started if there is none."""
        if held.deaths >= retry.MAX_DEATHS:
            self._settle(held, _died(held, "before this run"))
            return
        key = held.key
        if key not in self._engines:
            model = self._models[key]
            log.info("starting an engine for %s v%d on %s", *key, self._device)
            self._engines[key] = EngineHandle(model, self._device, self._object_store, self._mailbox)
        self._engines[key].send(messages.Run(held.job, alone=held.deaths >= retry.ALONE_AFTER_DEATHS))

    def drop(self, held: Held) -> None:
        """A job is no longer ours to run."""
        engine = self._engines.get(held.key)
        if engine is not None:
            engine.send(messages.Drop(held.claim))

    def heard(self, engine: EngineHandle, message: messages.ToHub) -> None:
        """An engine has said something."""
        engine.note(message, time.monotonic())
        match message:
            case messages.Loaded(load_s):
                log.info("%s is loaded in %.2f s", engine.name, load_s)
                self._failures.pop(engine.key, None)
            case messages.LoadFailed(reason):
                engine.verdict = engine.verdict or reason
            case messages.BatchDone():
                self._stats[engine.key].add(message)
            case messages.Finished(outcome):
                self._finished(engine, outcome)
            case _:
                pass

    def gone(self, mail: EngineGone) -> None:
        """An engine has ended: its unfinished jobs go back, fail, or are given to a new one."""
        engine = mail.engine
        if self._engines.get(engine.key) is engine:
            del self._engines[engine.key]
        unfinished = self._holdings.unfinished(engine.key)
        if engine.stopping:
            for held in unfinished:
                self._settle(held, returned(held.claim))
        elif not engine.loaded:
            self._load_failed(engine, unfinished, mail.returncode)
        else:
            self._died(engine, unfinished, mail.returncode)

    def kill_overdue(self, now: float) -> None:
        """End engines that have been at one thing for too long."""
        for engine in self._engines.values():
            verdict = engine.overdue(now)
            if verdict is not None and engine.verdict is None:
                log.error("engine %s is killed: %s", engine.name, verdict)
                engine.kill(verdict)

    def stop(self) -> None:
        """Have every engine finish what it has begun, and end."""
        for engine in self._engines.values():
            engine.stopping = True
            engine.send(messages.Stop())

    def kill(self, verdict: str) -> None:
        """End every engine at once."""
        for engine in self._engines.values():
            engine.kill(verdict)

    def _serving(self, key: ModelKey) -> Serving:
        engine = self._engines.get(key)
        if engine is not None and engine.loaded:
            return Serving(*key, state="ready")
        error = self._failures.get(key)
        return Serving(*key, state="failed" if error else "loading" if engine else "idle", error=error)

    def _finished(self, engine: EngineHandle, outcome: Outcome) -> None:
        held = self._holdings.get(Claim(outcome.id, outcome.epoch))
        if held is None or held.finished:
            return
        limited = retry.limit(
            outcome,
            attempts=held.job.attempts,
            max_attempts=engine.model.config.run.max_attempts,
            rows=held.job.rows,
            chance=random.random(),
        )
        self._settle(held, limited)

    def _load_failed(self, engine: EngineHandle, unfinished: Sequence[Held], returncode: int) -> None:
        reason = engine.verdict or f"the engine ended with exit code {returncode} while loading the model"
        log.error("%s cannot be loaded: %s", engine.name, reason)
        self._failures[engine.key] = reason
        for held in unfinished:
            # Another worker may be able to load it: the job is tried again, a few times.
            outcome = Outcome(
                id=held.job.id,
                epoch=held.job.epoch,
                move=Move.RETRY,
                state=JobState.QUEUED,
                error={"code": "model_load_failed", "message": reason},
            )
            self._finished(engine, outcome)

    def _died(self, engine: EngineHandle, unfinished: Sequence[Held], returncode: int) -> None:
        suspects = [held for held in unfinished if held.claim in engine.suspects]
        reason = engine.verdict or f"it ended with exit code {returncode}"
        log.error("engine %s died with %d jobs in its model: %s", engine.name, len(suspects), reason)
        self._accuse([held.claim for held in suspects])
        for held in suspects:
            held.deaths += 1
            if held.deaths >= retry.MAX_DEATHS:
                self._settle(held, _died(held, reason))
        for held in unfinished:
            if not held.finished:
                self.hand_over(held)


def returned(claim: Claim) -> Outcome:
    """The outcome of a job that goes back to the queue as it was."""
    return Outcome(id=claim.id, epoch=claim.epoch, move=Move.RETURN, state=JobState.QUEUED)


def _died(held: Held, reason: str) -> Outcome:
    message = f"the engine died {held.deaths} times while running this job; the last time: {reason}"
    return failed(held.job.id, held.job.epoch, code="engine_died", message=message, rows=held.job.rows)
