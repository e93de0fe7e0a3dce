"""Clocks that are wrong or jump: durations and Postgres' clock decide, so nobody is taken for dead."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from shunter.storage.worker_registry import LEASE_S
from tests.faults.arena import MODEL, Arena, arena, pass_time
from tests.waiting import wait_until

LIBRARY = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")

pytestmark = [
    pytest.mark.full,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not LIBRARY.exists(), reason="needs libfaketime: apt-get install libfaketime"),
]

SUBMITTER = """
import sys
from shunter import Client
job = Client().submit({model!r}, [{number}], deadline_s={deadline_s}, idempotency_key={key!r})
print(job.id, flush=True)
"""

# Under libfaketime `time.sleep` refuses every argument; what the fleet itself waits by does not.
SOURCE = """
import threading

class Model:
    def load(self, directory, device, *, row_s):
        self.row_s = row_s

    def forward(self, rows):
        threading.Event().wait(self.row_s * len(rows))
        return [row * 2 for row in rows]
"""

DEADLINE_S = 120.0
AHEAD, BEHIND = "+10m", "-10m"


def off_by(offset: str) -> Mapping[str, str]:
    """The environment of a process whose clock is off; what measures durations is not."""
    return {"LD_PRELOAD": str(LIBRARY), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def read_from(file: Path) -> Mapping[str, str]:
    """The environment of a process whose clock is off by what a file says now."""
    whole = {**off_by(""), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1"}
    return {name: value for name, value in whole.items() if value}


def submit_with_clock(place: Arena, offset: str) -> UUID:
    """A job of a producer whose clock is off, with a deadline."""
    number, key = len(place.sent), uuid4().hex
    code = SUBMITTER.format(model=MODEL, number=number, key=key, deadline_s=DEADLINE_S)
    assert place.spawn(["-c", code], environment=off_by(offset)).wait(60) == 0
    # The key names the job that this process submitted.
    ((id,),) = place.ask("SELECT job_id FROM idempotency_keys WHERE key = %s", (key,))
    place.sent[UUID(str(id))] = number
    return UUID(str(id))


def test_workers_and_producers_whose_clocks_are_wrong_lose_nothing_and_bury_nobody(tmp_path: Path) -> None:
    with arena(tmp_path, source=SOURCE, row_s=0.01, max_rows=16) as place:
        hubs = [place.start_hub(environment=off_by(offset)) for offset in (AHEAD, BEHIND)]
        for offset in (AHEAD, BEHIND, AHEAD, BEHIND):
            submit_with_clock(place, offset)
        place.submit(300)
        pass_time(LEASE_S + 2)
        place.wait()
        assert place.tally().sound
        assert place.epochs() == {1}
        assert {place.incarnation_of(hub.pid) for hub in hubs} == {hub.incarnation for hub in hubs}


def test_a_hub_that_dies_is_missed_by_one_whose_clock_is_wrong(tmp_path: Path) -> None:
    with arena(tmp_path, source=SOURCE, row_s=0.05, max_rows=4) as place:
        place.start_hub(environment=off_by(BEHIND))
        other = place.start_hub(environment=off_by(AHEAD))
        place.submit(200)
        wait_until(lambda: place.held_by(other), 60)
        other.kill()
        place.flush_redis()
        place.wait()
        assert place.tally().sound


def test_a_clock_that_jumps_to_and_fro_costs_nothing(tmp_path: Path) -> None:
    jumping = tmp_path / "offset"
    jumping.write_text("+0s\n")
    with arena(tmp_path, source=SOURCE, row_s=0.01, max_rows=16) as place:
        hubs = [place.start_hub(environment=read_from(jumping)), place.start_hub()]
        place.submit(1000)
        for offset in (AHEAD, BEHIND, "+0s", "+1h", "-1h"):
            jumping.write_text(f"{offset}\n")
            pass_time(2.5)
        place.wait()
        assert place.tally().sound
        assert place.epochs() == {1}
        assert {place.incarnation_of(hub.pid) for hub in hubs} == {hub.incarnation for hub in hubs}
        hubs[0].signal(signal.SIGTERM)
        assert hubs[0].process.wait(30) == 0
