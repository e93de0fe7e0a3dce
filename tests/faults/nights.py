"""Many midnights in minutes: two fleets on one database, one of them killed each night, a clock that is set.

python -m tests.faults.nights --seed 1 --nights 20 --days 30 --season spring
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from shunter.storage import clock, failpoints
from shunter.storage.scoring.request import ScoringRequest
from tests.faults.arena import MODEL, Arena, Hub, arena, chosen, pass_time
from tests.scoring_fleet import write_lines
from tests.waiting import wait_until

ROWS, CHUNK_ROWS = 24, 8

CRON, ZONE = "30 2 * * *", "Europe/Berlin"

SEASONS = {"spring": date(2026, 3, 29), "autumn": date(2026, 10, 25)}
"""The nights that skip 2:30 in Berlin, and that have it twice."""

POINTS = ("schedule.decided", "schedule.begun", "dataset.published", "plan.committed")
"""Where a fleet is killed, if it is not killed at any moment."""

WITHIN_S = 90.0

TALLY = """
SELECT w.start, count(s.id), count(s.id) FILTER (WHERE s.state = 'complete'),
    coalesce(sum(s.rows_succeeded), 0)
FROM schedule_windows AS w LEFT JOIN scorings AS s ON s.window_start = w.start GROUP BY w.start
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a campaign ended."""

    windows: int
    kills: Sequence[str]
    wrong: Sequence[str]


class Nights:
    """An arena with a clock of its own and two fleets, of which one is killed each time."""

    def __init__(self, place: Arena, rng: random.Random, season: str) -> None:
        self._place = place
        self._rng = rng
        self._change = SEASONS[season]
        self._clock = Path(os.environ[clock.VARIABLE])
        self._fleets: list[Hub] = []
        self.kills: list[str] = []

    def begin(self, first: date) -> None:
        """Two fleets and a schedule, the noon before its first night."""
        self.set_clock(datetime(first.year, first.month, first.day, tzinfo=UTC) - timedelta(hours=12))
        self._fleets = [self._place.start_hub(), self._place.start_hub()]
        folder = self._place.directory
        request = ScoringRequest(
            model=MODEL,
            input=str(folder / "in" / "{date}.jsonl"),
            output=str(folder / "out" / "{date}"),
            chunk_rows=CHUNK_ROWS,
        )
        self._place.client.add_schedule("nightly", request, cron=CRON, timezone=ZONE)

    def set_clock(self, moment: datetime) -> None:
        """What time it is from now on, for every process."""
        unfinished = self._clock.with_suffix(".new")
        unfinished.write_text(moment.isoformat())
        unfinished.replace(self._clock)

    def window_of(self, day: date) -> datetime:
        """When a day's window begins, worked out apart from what is tested."""
        summer = day > self._change if self._change.month == 3 else day <= self._change
        start = datetime(day.year, day.month, day.day, 0 if summer else 1, 30, tzinfo=UTC)
        skipped = day == self._change and self._change.month == 3
        return start - timedelta(minutes=30) if skipped else start

    def write_input(self, days: Collection[date]) -> None:
        """The rows of some days."""
        folder = self._place.directory / "in"
        folder.mkdir(exist_ok=True)
        for day in days:
            write_lines(folder / f"{day}.jsonl", [b"%d" % n for n in range(ROWS)])

    def night(self, days: Sequence[date]) -> None:
        """The night of the last of these days, one fleet killed in it; the others were missed."""
        self.write_input(days)
        complete = self.complete()
        self._strike(days[-1])
        wait_until(lambda: self.complete() == complete + len(days), WITHIN_S)

    def backfill(self, first: date, last: date) -> None:
        """Days one after the other, paused after a third, resumed, a fleet killed after two thirds."""
        days = (last - first).days + 1
        self.write_input([first + timedelta(days=n) for n in range(days)])
        before, schedule = self.complete(), self._place.client.schedule("nightly")
        assert schedule.backfill(first, last) == days
        wait_until(lambda: self.complete() - before >= days // 3, WITHIN_S)
        schedule.pause_backfill()
        wait_until(lambda: schedule.status().backfill.running == 0, WITHIN_S)
        held = self.complete()
        pass_time(3.0)
        assert self.complete() == held, "a paused backfill went on"
        schedule.resume_backfill()
        wait_until(lambda: self.complete() - before >= 2 * days // 3, WITHIN_S)
        victim = self._rng.choice(self._fleets)
        self._replace(victim, "in the backfill", self._place.start_hub())
        wait_until(lambda: self.complete() - before == days, 3 * WITHIN_S)

    def complete(self) -> int:
        """How many windows have their dataset."""
        done = "SELECT count(*) FROM scorings WHERE state = 'complete' AND schedule_name = 'nightly'"
        return int(self._place.ask(done)[0][0])

    def verdict(self, days: Sequence[date]) -> Verdict:
        """Whether each of these days, and nothing else, has one scoring with all its rows."""
        wanted = {self.window_of(day) for day in days}
        found = {start.astimezone(UTC): tuple(map(int, rest)) for start, *rest in self._place.ask(TALLY)}
        wrong = [f"{start} was not fired" for start in wanted - found.keys()]
        wrong += [f"{start} was never to be fired" for start in found.keys() - wanted]
        for start, (scorings, complete, rows) in found.items():
            if (scorings, complete, rows) != (1, 1, ROWS):
                wrong.append(f"{start}: {scorings} scorings, {complete} complete, {rows} rows")
        datasets = {path.name for path in (self._place.directory / "out").glob("[!.]*")}
        wrong += [f"{name} has no one's day" for name in datasets ^ {str(day) for day in days}]
        return Verdict(len(found), self.kills, wrong)

    def _strike(self, day: date) -> None:
        point = self._rng.choice((*POINTS, ""))
        victim = self._rng.choice(self._fleets)
        if point:
            # A fleet that breaks at a point must have been told so when it started.
            self._replace(victim, None, self._place.start_hub(f"{point}=crash@1"))
            victim = self._fleets[-1]
        self.set_clock(self.window_of(day) + timedelta(seconds=1))
        wait_until(lambda: victim.dead or self._begun(day), WITHIN_S)
        if not point:
            pass_time(self._rng.uniform(0.0, 1.0))
        else:
            # Both race for each step, and the other one may win them all.
            wait_until(lambda: victim.dead or self._ended(day), WITHIN_S)
        where = point if victim.dead else "at any moment"
        self._replace(victim, where, self._place.start_hub())

    def _replace(self, victim: Hub, where: str | None, successor: Hub) -> None:
        victim.kill()
        self._place.hubs.remove(victim)
        self._fleets = [fleet for fleet in self._fleets if fleet is not victim] + [successor]
        if where is not None:
            self.kills.append(where)

    def _begun(self, day: date) -> bool:
        statement = "SELECT 1 FROM schedule_windows WHERE start = %s"
        return bool(self._place.ask(statement, (self.window_of(day),)))

    def _ended(self, day: date) -> bool:
        statement = "SELECT 1 FROM scorings WHERE window_start = %s AND state <> 'running'"
        return bool(self._place.ask(statement, (self.window_of(day),)))


def campaign(directory: Path, rng: random.Random, *, nights: int, days: int, season: str) -> Verdict:
    """Nights around the change of the clocks, the last but one missed, and a backfill before them."""
    first = SEASONS[season] - timedelta(days=nights // 2)
    each = [first + timedelta(days=n) for n in range(nights)]
    with arena(directory) as place:
        scene = Nights(place, rng, season)
        scene.begin(first)
        for day in each[:-2]:
            scene.night([day])
        scene.night(each[-2:])
        past = [first - timedelta(days=n) for n in range(days, 0, -1)]
        if past:
            scene.backfill(past[0], past[-1])
        return scene.verdict([*past, *each])


def main() -> int:
    """Returns the exit code: 1 if a night was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="0 takes any, and prints it")
    parser.add_argument("--nights", type=int, default=20)
    parser.add_argument("--days", type=int, default=30, help="of the backfill; 0 for none")
    parser.add_argument("--season", choices=sorted(SEASONS), default="spring")
    arguments = parser.parse_args()
    rng, began = chosen(arguments.seed), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="shunter-nights-") as directory:
        os.environ[clock.VARIABLE] = f"{directory}/clock"
        os.environ[failpoints.CONSENT] = "yes"
        verdict = campaign(
            Path(directory), rng, nights=arguments.nights, days=arguments.days, season=arguments.season
        )
    report(verdict)
    print(f"in {time.monotonic() - began:.0f} s")
    return int(bool(verdict.wrong))


def report(verdict: Verdict) -> None:
    """Print what happened."""
    print(f"{verdict.windows} windows, {len(verdict.kills)} kills: {', '.join(verdict.kills)}")
    for wrong in verdict.wrong:
        print(f"WRONG {wrong}")
    print(f"{len(verdict.wrong)} windows were lost, doubled or wrong")


if __name__ == "__main__":
    sys.exit(main())
