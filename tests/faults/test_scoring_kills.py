"""A slice of the campaign against a scoring: every kind of process is killed once while it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.arena import chosen, size
from tests.faults.scoring import campaign


@pytest.mark.full
@pytest.mark.timeout(300)
def test_kills_change_no_byte_of_a_dataset_and_cost_only_what_was_in_hand(tmp_path: Path) -> None:
    found = campaign(tmp_path, chosen(), rows=size(20_000, 1_000_000))
    print(f"measured: {found.redone} rows done again, {found.held} had been in killed hands")
    assert found.different == []
    assert found.redone <= found.held, found
