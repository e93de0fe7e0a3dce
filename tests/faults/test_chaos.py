"""A slice of the campaign: whatever is killed, every promise is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.arena import chosen, size
from tests.faults.chaos import campaign, report


@pytest.mark.timeout(900)
def test_no_promise_is_broken_whatever_is_killed(tmp_path: Path) -> None:
    verdict = campaign(tmp_path, chosen(), seconds=size(10, 120))
    report(verdict)
    assert verdict.ledger.accepted
    assert verdict.wrong == []
