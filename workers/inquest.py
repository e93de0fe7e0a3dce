"""What the deaths of a worker's engines lead to: suspects, probes, charges, and rows found guilty."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import starmap

from shunter.storage.job import Claim
from shunter.storage.outcome import Outcome, RowFailure
from shunter.workers import messages, verdicts
from shunter.workers.engine_handle import EngineHandle
from shunter.workers.holdings import Held, Holdings, ModelKey
from shunter.workers.spans import Span
from shunter.workers.suspicion import Suspicion, patience_s

log = logging.getLogger(__name__)


class Inquest:
    """One search for each model version; it outlives the engines.

    `accuse` takes the claims that were in an engine's hands at its death. Only the hub's thread calls this.
    """

    def __init__(self, holdings: Holdings, accuse: Callable[[Sequence[Claim]], None]) -> None:
        self._holdings = holdings
        self._accuse = accuse
        self._suspicions: dict[ModelKey, Suspicion] = defaultdict(Suspicion)
        self._slowest_s: dict[tuple[ModelKey, str], float] = defaultdict(float)

    def deaths(self, held: Held) -> int:
        """The deaths of workers and engines with this job in hand for which no row is known to be guilty."""
        suspicion = self._suspicions[held.key]
        return held.job.deaths + (0 if suspicion.quiet else suspicion.charges(held.claim))

    def suspects(self, key: ModelKey) -> tuple[Claim, ...]:
        """The jobs of which some rows run only in probes."""
        return self._suspicions[key].suspects()

    def is_suspect(self, held: Held) -> bool:
        """Whether rows of this job run only in probes."""
        return bool(self._suspicions[held.key].withheld(held.claim))

    def has_findings(self, held: Held) -> bool:
        """Whether something about this job has been found out that is known only here."""
        return self.is_suspect(held) or bool(self._suspicions[held.key].guilty(held.claim))

    def runs_of(self, key: ModelKey, jobs: Sequence[Held], now: float) -> Iterator[messages.Run]:
        """What to tell an engine, so that it runs these jobs of its model version as far as it may."""
        suspicion = self._suspicions[key]
        quiet = suspicion.quiet
        for held in jobs:
            if quiet:
                yield messages.Run(held.as_of(now))
            else:
                guilty = [RowFailure(i, f.code, f.message) for i, f in suspicion.guilty(held.claim).items()]
                yield messages.Run(held.as_of(now), tuple(guilty), suspicion.withheld(held.claim))

    def begun(self, engine: EngineHandle, message: messages.Begun, now: float) -> None:
        """A stage holds other rows than before; suspects have less time than others."""
        stage = engine.key, message.stage
        limit_s = engine.model.config.run.batch_timeout_s
        if self._suspicions[engine.key].probing(message.spans):
            limit_s = patience_s(self._slowest_s[stage], limit_s)
        took_s = engine.begun(message, now, limit_s=limit_s)
        self._slowest_s[stage] = max(took_s, self._slowest_s[stage])

    def probed(self, key: ModelKey) -> None:
        """A probe has passed."""
        self._suspicions[key].probed()

    def next_probes(self, key: ModelKey) -> tuple[messages.Probe, ...]:
        """The suspects to be tried next, none while others still are."""
        return tuple(messages.Probe(spans) for spans in self._suspicions[key].next_round())

    def engine_ended(self, key: ModelKey) -> None:
        """An engine ended as it should: what it had not probed waits for the next one."""
        self._suspicions[key].engine_ended()

    def died(
        self, engine: EngineHandle, unfinished: Sequence[Held], returncode: int
    ) -> Iterator[tuple[Held, Outcome]]:
        """An engine has died. Gives the jobs that have nothing left to run, or have cost too many engines."""
        suspicion, announced = self._suspicions[engine.key], engine.announced
        reason = engine.verdict or verdicts.ending(returncode)
        log.error("engine %s died with %d stages at work: %s", engine.name, len(announced), reason)
        verdict = verdicts.of_row(reason, hangs=engine.overdue_stage is not None)
        present = [(Span(held.claim, 0, held.job.rows),) for held in unfinished]
        death = suspicion.died(announced, present, verdict)
        self._charge(death.charged)
        for claim, index in death.guilty:
            log.error("row %d of job %s is guilty, and runs no more", index, claim.id)
            held = self._holdings.get(*claim)
            if held is not None and not held.finished:
                outcome = verdicts.of_guilty_rows(held.job, suspicion.guilty(claim))
                if outcome is not None:
                    yield held, outcome

    def forget(self, held: Held) -> None:
        """A job is done with, or no longer ours."""
        suspicion = self._suspicions[held.key]
        if not suspicion.quiet:
            suspicion.forget(held.claim)

    def _charge(self, claims: Sequence[Claim]) -> None:
        """Tell Postgres, once under each claim: so no job passes from one dying hub to another for ever."""
        held = [held for held in starmap(self._holdings.get, claims) if held is not None and not held.charged]
        for one in held:
            one.charged = True
        self._accuse([one.claim for one in held])
