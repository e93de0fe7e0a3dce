"""Strikes off a job's way: in an engine, in the planning and the end of a scoring, and in what forgets."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid4

from shunter.producers.scoring.handle import Scoring
from shunter.storage import partitions
from shunter.storage.file_object_store import FileObjectStore
from shunter.storage.object_sweep import SWEEP_AFTER_S
from shunter.storage.results import input_key
from shunter.storage.scoring.request import ScoringRequest
from tests.faults.arena import MODEL, Arena, pass_time
from tests.waiting import wait_until

SOURCE = """
import os
import time
from pathlib import Path
from shunter.storage import failpoints

class Model:
    def load(self, directory, device, *, row_s):
        self.row_s = row_s
        struck = Path(directory).parents[2] / "struck"
        # Of the engines of an armed hub only the first dies; those of other hubs are not counted.
        if "engine." in os.environ.get(failpoints.VARIABLE, ""):
            if struck.exists():
                failpoints.arm("")
            struck.touch()

    def forward(self, rows):
        time.sleep(self.row_s * len(rows))
        return [row * 2 for row in rows]
"""
"""The model of an arena in which engines are struck."""

STRIKE_WITHIN_S = 60.0
SCORED_ROWS = 50
OLD_WEEKS = 8

SCORED = """
SELECT schedule_name, state::text, count(*) FROM scorings WHERE schedule_name = ANY(%s)
GROUP BY schedule_name, state ORDER BY schedule_name
"""


class Blow(NamedTuple):
    """When something was killed, Unix time, and the jobs that were to run again."""

    at: float
    affected: Sequence[UUID] = ()


def kill_an_engine(place: Arena, boundary: str) -> Blow:
    """Only the engine dies, with its outputs stored."""
    (place.directory / "struck").unlink(missing_ok=True)
    before = struck(place, boundary)
    hub = place.start_hub(f"{boundary}=crash")
    deadline = time.monotonic() + STRIKE_WITHIN_S
    while struck(place, boundary) == before:
        assert time.monotonic() < deadline, "no engine of the armed worker ever stored anything"
        place.submit(5)
        pass_time(0.1)
    blow = Blow(time.time(), place.held_by(hub))
    assert not hub.dead
    place.wait()
    hub.kill()
    return blow


def struck(place: Arena, boundary: str) -> int:
    """How often this failpoint has killed, as the log tells."""
    return (place.directory / "processes.log").read_text().count(f"failpoint {boundary}: crash")


def kill_a_scoring(place: Arena, boundary: str) -> Blow:
    """The hub that plans or publishes a scoring dies; another must bring it to its end."""
    blow, scorings = _score_until_killed(place, boundary)
    for scoring in scorings:
        status = scoring.wait(STRIKE_WITHIN_S)
        assert (status.state, status.failed) == ("complete", 0), status
    return blow


def kill_a_reporter(place: Arena, boundary: str) -> Blow:
    """The hub that has stored a report's page dies; another must build the report again."""
    blow, scorings = _score_until_killed(place, boundary)
    for scoring in scorings:
        assert scoring.report(STRIKE_WITHIN_S)["rows"]["succeeded"] == SCORED_ROWS
    return blow


def _score_until_killed(place: Arena, boundary: str) -> tuple[Blow, list[Scoring]]:
    scorings: list[Scoring] = []
    # Either worker may take it: sooner or later it is the armed one.
    blow = _feed_until_killed(place, boundary, lambda: scorings.append(_score(place)))
    return blow, scorings


def _feed_until_killed(place: Arena, boundary: str, feed: Callable[[], object]) -> Blow:
    hub = place.start_hub(f"{boundary}=crash")
    deadline = time.monotonic() + STRIKE_WITHIN_S
    while not hub.dead:
        assert time.monotonic() < deadline, "the armed worker never came to its failpoint"
        feed()
        pass_time(0.5)
    assert hub.process.returncode == -signal.SIGKILL
    return Blow(time.time(), place.not_running())


def _score(place: Arena) -> Scoring:
    output = place.directory / "datasets" / uuid4().hex
    rows = ({"x": number} for number in range(SCORED_ROWS))
    return place.client.score(MODEL, rows, output, columns=["x"], chunk_rows=10)


def kill_a_schedule(place: Arena, boundary: str) -> Blow:
    """The hub that fires a window dies; the window must have one scoring all the same."""
    rows = place.directory / "day.jsonl"
    rows.write_text("1\n2\n")
    names: list[str] = []

    def miss_a_day() -> None:
        names.append(f"daily-{len(names)}-{boundary.partition('.')[2]}")
        output = str(place.directory / "datasets" / names[-1] / "{date}")
        request = ScoringRequest(model=MODEL, input=str(rows), output=output)
        place.client.add_schedule(names[-1], request, cron="0 1 * * *")
        place.ask(
            "UPDATE schedules SET decided_until = now() - interval '1 day' WHERE name = %s", (names[-1],)
        )

    blow = _feed_until_killed(place, boundary, miss_a_day)
    once = [(name, "complete", 1) for name in sorted(names)]
    wait_until(lambda: place.ask(SCORED, (names,)) == once, STRIKE_WITHIN_S)
    return blow


def kill_who_drops_a_week(place: Arena, boundary: str) -> Blow:
    """A hub forgets as soon as it has started: there is a week of which everything is old."""
    long_ago = datetime.now(UTC) - timedelta(weeks=OLD_WEEKS)
    for statement in partitions.statements(long_ago, weeks=1):
        place.ask(statement)
    return _kill_at_start(place, boundary)


def kill_who_sweeps(place: Arena, boundary: str) -> Blow:
    """A hub sweeps as soon as it has started: there is an object that no row names."""
    root = Path(place.settings.object_store.removeprefix("file://"))
    key = input_key(uuid4())
    FileObjectStore(root).put(key, b"x")
    long_ago = time.time() - 2 * SWEEP_AFTER_S
    os.utime(root / key, (long_ago, long_ago))
    return _kill_at_start(place, boundary)


def _kill_at_start(place: Arena, boundary: str) -> Blow:
    process = place.spawn(["-m", "shunter", "worker", "--log-level", "warning"], f"{boundary}=crash")
    wait_until(lambda: process.poll() is not None, STRIKE_WITHIN_S)
    assert process.returncode == -signal.SIGKILL
    return Blow(time.time())


ELSEWHERE: Mapping[str, Callable[[Arena, str], Blow]] = {
    "engine.stored": kill_an_engine,
    "plan.committed": kill_a_scoring,
    "dataset.published": kill_a_scoring,
    "schedule.decided": kill_a_schedule,
    "schedule.begun": kill_a_schedule,
    "report.stored": kill_a_reporter,
    "retention.locked": kill_who_drops_a_week,
    "sweep.found": kill_who_sweeps,
}
"""How to kill at the points that are no step of a job's way; together with JOURNEY these are all."""
