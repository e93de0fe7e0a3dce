"""Workers are killed at each boundary between two writes; another finishes: nothing is lost or doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

from shunter.storage import failpoints
from tests.faults.arena import Arena, arena, chosen, pass_time, size
from tests.faults.strikes import BOUNDARIES, FEED_EVERY_S, FEEDERS, feed_five, report, spread, strike


@pytest.mark.timeout(900)
@pytest.mark.parametrize("half", [1, 2])
def test_no_kill_at_any_boundary_loses_or_doubles_a_job(tmp_path: Path, half: int) -> None:
    rng = chosen()
    with arena(tmp_path) as place:
        place.start_hub()
        strikes = [strike(place, boundary, rng) for boundary in spread(len(BOUNDARIES) * size(1, 2), rng)]
        place.wait()
        lines = report(place, strikes)
        assert {each.boundary for each in strikes} == set(BOUNDARIES)
        assert [line for line in lines if not line.tally.sound] == []
        assert place.tally().sound


@pytest.mark.timeout(900)
def test_a_job_whose_hub_is_killed_again_and_again_still_succeeds(tmp_path: Path) -> None:
    kills = size(3, 20)
    with arena(tmp_path) as place:
        (job,) = place.submit(1)
        for _ in range(kills):
            hub = place.start_hub("settle.before=crash")
            hub.process.wait(30)
            # As a rescuer does after a lease, which other tests wait for.
            place.registry.end([hub.incarnation])
        place.start_hub()
        place.wait()
        assert place.tally().sound
        row = place.repository.get(job)
        assert (row.epoch, row.deaths, row.attempts) == (kills + 1, 0, 0)


def test_a_hub_outlives_an_outage_at_every_point(tmp_path: Path) -> None:
    points = [point for point in failpoints.POINTS if point != "submit.committed"]
    with arena(tmp_path) as place:
        hub = place.start_hub(",".join(f"{point}=error@2" for point in points))
        while unhappened(place, points):
            for feed in (*FEEDERS.values(), feed_five):
                feed(place)
            pass_time(FEED_EVERY_S)
        place.wait()
        assert place.tally().sound
        assert not hub.dead
        assert place.incarnation_of(hub.pid) == hub.incarnation


def unhappened(place: Arena, points: list[str]) -> list[str]:
    """The points at which no error has been raised yet, as the log tells."""
    log = (place.directory / "processes.log").read_text()
    return [point for point in points if f"failpoint {point}: error" not in log]
