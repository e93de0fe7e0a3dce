"""A round over scorings: each has its turn, and what went wrong is told afterwards."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from shunter.storage.errors import DatabaseUnavailable, ObjectStoreUnavailable
from shunter.workers.scoring_round import each_scoring


class Steps:
    """Steps that come to 1 each, but for scorings that meet something."""

    def __init__(self, **met: Exception) -> None:
        self.ids = [uuid4() for _ in range(4)]
        self.taken: list[UUID] = []
        self._met = {self.ids[int(place.removeprefix("at_"))]: error for place, error in met.items()}

    def __call__(self, id: UUID) -> int:
        self.taken.append(id)
        if id in self._met:
            raise self._met[id]
        return 1


def test_what_the_steps_come_to_is_summed() -> None:
    steps = Steps()
    assert each_scoring(steps.ids, steps) == 4


def test_an_outage_is_raised_when_each_has_had_its_turn() -> None:
    steps = Steps(at_0=ObjectStoreUnavailable("first"), at_2=DatabaseUnavailable("second"))
    with pytest.raises(ObjectStoreUnavailable, match="first"):
        each_scoring(steps.ids, steps)
    assert steps.taken == steps.ids


def test_a_file_that_cannot_be_read_is_an_outage() -> None:
    steps = Steps(at_1=OSError("input/output error"))
    with pytest.raises(ObjectStoreUnavailable, match=f"{steps.ids[1]}: input/output error"):
        each_scoring(steps.ids, steps)
    assert steps.taken == steps.ids


def test_what_nobody_expected_is_raised_with_its_scoring_before_any_outage() -> None:
    steps = Steps(at_0=ObjectStoreUnavailable("an outage"), at_1=KeyError("a bug"))
    with pytest.raises(KeyError) as raised:
        each_scoring(steps.ids, steps)
    assert raised.value.__notes__ == [f"This was met by the scoring {steps.ids[1]}."]
    assert steps.taken == steps.ids
