"""Ceilings that are too low are raised by trials, one at a time, and seldom after one that failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from shunter.storage.ceiling import Ceiling, RaisedCeiling
from shunter.storage.job import Claim, Priority
from shunter.storage.model_config import Batching
from shunter.workers.batch import Batch, Row, Ticket
from shunter.workers.batcher import Batcher
from shunter.workers.ceiling_trials import AFTER_BATCHES, AFTER_FAILURE
from shunter.workers.ceilings import Ceilings
from shunter.workers.isolation import isolate
from shunter.workers.lane import ONLY_BUCKET

MOST = 256
TOKENS = 8


@dataclass
class Device:
    """A worker's batcher with a device that holds so many rows, or so many tokens; a batch takes a second."""

    fits: int
    ceilings: Ceilings
    tokens: int = 0
    raised: list[RaisedCeiling] = field(default_factory=list)
    ooms: int = 0
    trials: int = 0
    trials_failed: int = 0
    served: int = 0

    def __post_init__(self) -> None:
        self.batcher: Batcher[Ticket] = Batcher(Batching(max_rows=MOST), ceilings=self.ceilings)

    def serve(self, batches: int) -> None:
        """So many batches, from a line that never empties."""
        for batch in self._batches(batches):
            isolated = isolate(
                len(batch.rows), self._forward, ceiling=self.batcher.ceiling(batch), trial=batch.trial
            )
            assert isolated.results == list(range(len(batch.rows)))
            self.served += len(batch.rows)
            self.ooms += isolated.ooms
            self.trials += batch.trial
            self.trials_failed += isolated.trial_failed
            if isolated.trial_failed:
                self.batcher.trial_failed(batch)
            if isolated.ceiling is not None:
                self.batcher.lower_ceiling(batch, isolated.ceiling)
            if isolated.forwards == 1:
                raised = self.batcher.measured(batch, 1.0)
                self.raised += [raised] if raised is not None else []

    def _batches(self, count: int) -> Iterator[Batch[Ticket]]:
        ticket = Ticket(Claim(UUID(int=1), 1), Priority.STANDARD)
        for now in range(count):
            waiting = 4 * MOST - len(self.batcher)
            self.batcher.add(Row(ticket, n, n, float(now), tokens=self.tokens) for n in range(waiting))
            batch = self.batcher.next_batch(float(now), idle=True)
            assert batch is not None
            yield batch

    def _forward(self, part: Sequence[int]) -> Sequence[int]:
        if len(part) * max(1, self.tokens) > self.fits:
            raise MemoryError
        return part


def knowing(ceiling: Ceiling, *, trials: bool = True) -> Ceilings:
    ceilings = Ceilings(trials=trials)
    ceilings.learn("device", [ceiling])
    return ceilings


BY_ROWS, BY_TOKENS = Ceiling("device", ONLY_BUCKET, 8), Ceiling("device", "length<=16", 8, 8 * TOKENS)


@pytest.mark.parametrize(("known", "tokens"), [(BY_ROWS, 0), (BY_TOKENS, TOKENS)])
def test_a_ceiling_that_is_too_low_is_raised_to_nearly_what_fits(known: Ceiling, tokens: int) -> None:
    device = Device(100 * max(1, tokens), knowing(known), tokens)
    device.serve(2 * AFTER_FAILURE)
    assert 80 <= device.raised[-1].now.rows <= 100
    assert (device.ooms, device.trials_failed) == (0, 1), "the one that failed is counted apart"
    assert device.trials == len(device.raised) + 1


def test_a_ceiling_that_is_right_costs_one_trial_in_a_while() -> None:
    device = Device(8, knowing(BY_ROWS))
    device.serve(3 * AFTER_FAILURE)
    assert (device.trials, device.trials_failed, device.ooms) == (3, 3, 0)
    assert device.raised == []


def test_without_being_asked_for_nothing_is_tried() -> None:
    device = Device(100, knowing(BY_ROWS, trials=False))
    device.serve(AFTER_FAILURE)
    assert (device.trials, device.raised, device.served) == (0, [], 8 * AFTER_FAILURE)


def test_a_trial_that_is_never_heard_of_again_is_not_followed_by_another_at_once() -> None:
    ceilings = knowing(BY_ROWS)
    for _ in range(AFTER_BATCHES):
        ceilings.fitted(ONLY_BUCKET, 8, 0)
    assert ceilings.rows(ONLY_BUCKET, 0) == 10
    assert ceilings.closed(ONLY_BUCKET, 10, 0)
    assert ceilings.rows(ONLY_BUCKET, 0) == 8


def test_memory_that_shrinks_lowers_a_ceiling_that_was_raised() -> None:
    device = Device(100, knowing(BY_ROWS))
    device.serve(AFTER_FAILURE)
    device.fits = 20
    device.serve(10)
    assert device.ooms >= 1
    assert (device.ceilings.limit(ONLY_BUCKET, 0) or 0) <= 20


def test_what_was_raised_takes_the_place_of_what_it_disproves() -> None:
    lower, other = Ceiling("device", "length<=32", 2, 32), Ceiling("other", "length<=16", 4, 64)
    above, below = Ceiling("device", "length<=64", 2, 70), Ceiling("device", "length<=64", 2, 90)
    raised = RaisedCeiling(BY_TOKENS, Ceiling("device", "length<=16", 10, 80))
    assert raised.applied_to([lower, other, BY_TOKENS, above, below]) == (lower, other, below, raised.now)
    rows = RaisedCeiling(BY_ROWS, Ceiling("device", ONLY_BUCKET, 10))
    assert rows.applied_to([BY_ROWS, Ceiling("device", "A", 8)]) == (Ceiling("device", "A", 8), rows.now)
