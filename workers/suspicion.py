"""Which rows may have killed an engine, and how the guilty ones are found across its restarts; pure.

    an engine dies -> what its stages had announced is suspect, and runs only in probes
    next_round()   -> some groups of suspects, each probed with nothing else in the model's hands
    probed()       -> the group is innocent, and has its results
    died()         -> the group in the model's hands is divided; a row that was there alone is guilty

A probe that passes costs one small forward, one that dies costs an engine start, and with a hang a
timeout. So a group is divided by 16 rather than 2: a guilty row among 256 is found by two more
deaths. What `isolation` does for exceptions, where passing and failing cost the same, is by halves.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shunter.storage.job import Claim
from shunter.workers.isolation import Failure
from shunter.workers.spans import RowName, Spans, claims_of, rows_of, split, without

PARTS = 16
"""Into so many probes a group is divided, and so many follow on one another before other work has a turn."""

PROBE_PATIENCE = 10.0
"""A probe hangs when it takes so many times what the slowest batch took, which was no smaller."""

LEAST_PATIENCE_S = 5.0
"""And never less than this: a machine may stall for a moment."""


@dataclass(frozen=True, slots=True)
class Death:
    """What a death of the engine says: jobs it is charged to, and rows found guilty by it."""

    charged: tuple[Claim, ...] = ()
    guilty: tuple[RowName, ...] = ()


class Suspicion:
    """The search of one model version on one worker.

    A job is charged a death only while nobody has been found guilty of it, and once per search unless
    its rows relapse after they had been cleared, or the engine dies before it can probe any: so innocent
    neighbours are charged nothing in the end, and a job that dies without a culprit is charged again and
    again until it fails.
    """

    def __init__(self) -> None:
        self._waiting: deque[Spans] = deque()
        self._round: deque[Spans] = deque()
        self._guilty: dict[Claim, dict[int, Failure]] = {}
        self._charges: Counter[Claim] = Counter()
        self._searched: set[Claim] = set()
        self._cleared: set[RowName] = set()
        self._dropped: set[Claim] = set()

    @property
    def quiet(self) -> bool:
        """Whether no job is suspected, charged or guilty: so it is when nearly every job comes and goes."""
        return not (self._round or self._waiting or self._guilty or self._charges or self._searched)

    def withheld(self, claim: Claim) -> tuple[tuple[int, int], ...]:
        """The rows of a job that run only in probes, as (start, stop)."""
        groups = (*self._round, *self._waiting)
        return tuple((s.start, s.stop) for group in groups for s in group if s.claim == claim)

    def suspects(self) -> tuple[Claim, ...]:
        """The jobs of which some rows run only in probes."""
        return claims_of(span for group in (*self._round, *self._waiting) for span in group)

    def guilty(self, claim: Claim) -> Mapping[int, Failure]:
        """The rows of a job that run no more, and why."""
        return self._guilty.get(claim, {})

    def charges(self, claim: Claim) -> int:
        """The deaths of engines with this job in hand for which nobody has been found guilty."""
        return self._charges[claim]

    def probing(self, spans: Spans) -> bool:
        """Whether these rows are in the model's hands as a probe."""
        if not self._round:
            return False
        ours = self._ours(spans)
        return bool(ours) and set(rows_of(ours)) <= set(rows_of(self._round[0]))

    def next_round(self) -> tuple[Spans, ...]:
        """Groups to be probed one after the other; none while a round is under way."""
        if self._round:
            return ()
        while self._waiting and len(self._round) < PARTS:
            self._round.append(self._waiting.popleft())
        return tuple(self._round)

    def probed(self) -> None:
        """The first group of the round has passed."""
        self._cleared.update(rows_of(self._round.popleft()))
        self._close_if_over()

    def engine_ended(self) -> None:
        """What the engine had not probed waits for the next one."""
        self._waiting.extendleft(reversed([group for group in self._round if group]))
        self._round.clear()
        self._dropped.clear()
        self._close_if_over()

    def died(self, announced: Sequence[Spans], present: Sequence[Spans], verdict: Failure) -> Death:
        """An engine has died with these groups in the hands of its stages, the likeliest first.

        `present` are all its jobs, a group each: they are suspect if no stage had announced anything.
        """
        groups = [ours for group in announced or present if (ours := self._ours(group))]
        probed = bool(announced and groups) and self.probing(groups[0])
        self.engine_ended()
        if probed:
            return self._narrow(groups[0], verdict)
        return self._suspect(groups)

    def forget(self, claim: Claim) -> None:
        """A job is done with, or no longer ours."""
        keep = [tuple(span for span in group if span.claim != claim) for group in self._waiting]
        self._waiting = deque(group for group in keep if group)
        # The engine will still answer for each group of the round, in order, and name all rows it was given.
        if self._round:
            self._dropped.add(claim)
        self._round = deque(tuple(s for s in group if s.claim != claim) for group in self._round)
        self._guilty.pop(claim, None)
        self._charges.pop(claim, None)
        self._searched.discard(claim)
        self._close_if_over()

    def _ours(self, spans: Spans) -> Spans:
        """These rows, without those of jobs that ended or were dropped while they were being probed."""
        return tuple(span for span in spans if span.claim not in self._dropped)

    def _narrow(self, accused: Spans, verdict: Failure) -> Death:
        """The group that comes first now has died in a probe."""
        rest = without(self._waiting.popleft(), rows_of(accused))
        if rest:
            self._waiting.appendleft(rest)
        rows = rows_of(accused)
        if len(rows) > 1:
            self._waiting.extendleft(reversed(split(accused, PARTS)))
            return Death()
        ((claim, index),) = rows
        self._guilty.setdefault(claim, {})[index] = verdict
        for explained in self._searched:
            self._charges.pop(explained, None)
        self._close_if_over()
        return Death(guilty=((claim, index),))

    def _suspect(self, groups: Sequence[Spans]) -> Death:
        """Rows that ran freely are suspect from now on."""
        accused = [span for group in groups for span in group]
        relapsed = {claim for claim, index in rows_of(accused) if (claim, index) in self._cleared}
        known = {row for group in self._waiting for row in rows_of(group)}
        known.update((claim, index) for claim, guilty in self._guilty.items() for index in guilty)
        # Nothing new to suspect: it died before the first probe, and would so for ever.
        stuck = known.issuperset(rows_of(accused))
        charged = tuple(c for c in claims_of(accused) if stuck or c not in self._searched or c in relapsed)
        self._searched.update(charged)
        self._charges.update(charged)
        for place, group in enumerate(groups):
            fresh = without(group, known)
            known.update(rows_of(fresh))
            # Bystanders are most often innocent, and then one probe is enough for all of them.
            self._waiting.extend(split(fresh, 1 if place else PARTS))
        return Death(charged=charged)

    def _close_if_over(self) -> None:
        if not self._round:
            self._dropped.clear()
            if not self._waiting:
                self._searched.clear()
                self._cleared.clear()


def patience_s(slowest_s: float, batch_timeout_s: float) -> float:
    """How long a probe may take, when the slowest batch so far took `slowest_s`; 0 if there was none."""
    if not slowest_s:
        return batch_timeout_s
    return min(batch_timeout_s, max(LEAST_PATIENCE_S, PROBE_PATIENCE * slowest_s))
