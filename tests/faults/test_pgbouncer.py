"""The whole fleet behind PgBouncer in transaction mode: nothing lives longer than a transaction."""

from __future__ import annotations

from pathlib import Path

import pytest

from shunter import Client
from shunter.commands.verify import examine
from tests.faults.arena import MODEL, arena, chosen, size
from tests.faults.chaos import campaign, report
from tests.faults.pgbouncer import pgbouncer, program

pytestmark = [
    pytest.mark.full,
    pytest.mark.timeout(900),
    pytest.mark.skipif(program() is None, reason="needs PgBouncer: apt-get install pgbouncer"),
]


def test_every_way_in_works_behind_pgbouncer(tmp_path: Path) -> None:
    with arena(tmp_path, through=pgbouncer) as place:
        hubs = [place.start_hub() for _ in range(2)]
        with Client(settings=place.settings) as client:
            assert client.submit(MODEL, [1, 2], idempotency_key="k").outputs() == [2, 4]
            assert list(client.map(MODEL, range(500))) == [2 * number for number in range(500)]
            assert [item.output() for item in client.submit_many(MODEL, range(20))] == list(range(0, 40, 2))
            rows = ({"x": number} for number in range(50))
            scoring = client.score(MODEL, rows, tmp_path / "scored", columns=["x"])
            assert scoring.wait(60).succeeded == 50
        # Rescue, relay and settlement as well.
        place.submit(200)
        place.flush_redis()
        hubs[0].kill()
        place.wait()
        assert place.tally().sound
        assert examine(place.settings)[1] == []


def test_no_promise_is_broken_behind_pgbouncer(tmp_path: Path) -> None:
    verdict = campaign(tmp_path, chosen(), seconds=size(10, 60), through_pgbouncer=True)
    report(verdict)
    assert verdict.wrong == []
