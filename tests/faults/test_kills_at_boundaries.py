"""Workers are killed at each boundary between two writes; another finishes: nothing is lost or doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

from shunter.storage import failpoints
from tests.faults.arena import Arena, arena, chosen, pass_time, size
from tests.faults.strikes import (
    BOUNDARIES,
    BY_SUBMITTER,
    FEED_EVERY_S,
    FEEDERS,
    feed_five,
    report,
    spread,
    strike,
)
from tests.faults.strikes_elsewhere import ELSEWHERE, SOURCE
from tests.waiting import wait_until


@pytest.mark.timeout(900)
def test_no_kill_at_any_boundary_loses_or_doubles_a_job(tmp_path: Path) -> None:
    rng, tries = chosen(), size(4, 4 * len(BOUNDARIES))
    with arena(tmp_path) as place:
        place.start_hub()
        strikes = [strike(place, boundary, rng) for boundary in spread(tries, rng)]
        place.wait()
        lines = report(place, strikes)
        assert [line for line in lines if not line.tally.sound] == []
        assert place.tally().sound


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_kill_at_any_point_off_a_jobs_way_loses_nothing(tmp_path: Path) -> None:
    with arena(tmp_path, source=SOURCE) as place:
        place.start_hub()
        place.wait(place.submit(1))
        for point in ELSEWHERE:
            strike(place, point, chosen())
        place.wait()
        assert place.tally().sound
        assert ELSEWHERE.keys() | failpoints.JOURNEY.keys() == failpoints.POINTS.keys()


@pytest.mark.full
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
    points = sorted(failpoints.JOURNEY.keys() - BY_SUBMITTER)
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


@pytest.mark.full
def test_an_engine_that_dies_with_its_outputs_stored_costs_its_hub_nothing(tmp_path: Path) -> None:
    with arena(tmp_path) as place:
        hub = place.start_hub("engine.stored=crash@3")
        place.wait(place.submit(5))
        tally = place.tally()
        assert (tally.wrong, tally.doubled) == (0, 0)
        # Every engine dies so: at worst the search takes one job, whose turn it was, for the culprit.
        assert tally.unfinished <= 1
        assert not hub.dead
        assert place.epochs() == {1}
        assert "failpoint engine.stored: crash" in (place.directory / "processes.log").read_text()


@pytest.mark.full
def test_a_hub_that_loses_the_replies_of_commits_finds_out_what_became_of_them(tmp_path: Path) -> None:
    points = ["claim.committed", "settle.committed"]
    with arena(tmp_path) as place:
        place.start_hub(",".join(f"{point}=drop@1" for point in points))
        place.wait(place.submit(5))
        assert place.tally().sound
        assert unhappened(place, points, "drop") == []


@pytest.mark.full
def test_a_hub_that_hangs_between_two_writes_holds_up_nothing_for_ever(tmp_path: Path) -> None:
    with arena(tmp_path) as place:
        hung = place.start_hub("settle.before=hang@1")
        ids = place.submit(5)
        wait_until(lambda: not unhappened(place, ["settle.before"], "hang"), 30)
        # It still beats: only its end tells the fleet.
        hung.kill()
        place.start_hub()
        place.wait(ids)
        assert place.tally().sound


def unhappened(place: Arena, points: list[str], action: str = "error") -> list[str]:
    """The points at which this has not been done yet, as the log tells."""
    log = (place.directory / "processes.log").read_text()
    return [point for point in points if f"failpoint {point}: {action}" not in log]
