"""Schedules without processes: a fleet of `scoring_fleet`, the duty of firing, and a clock that tests set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from shunter.producers.schedules.request import WindowStatus
from shunter.producers.schedules.scheduler import Scheduler
from shunter.storage import clock, failpoints
from shunter.storage.database import Database
from shunter.storage.job_repair import JobRepair
from shunter.storage.model_registry import ModelRegistry
from shunter.storage.schedules.definition import Definition
from shunter.storage.schedules.repository import ScheduleRepository
from shunter.storage.scoring.request import ScoringRequest
from shunter.storage.worker_registry import WorkerRegistry
from shunter.workers.schedule_firing import ScheduleFiring
from tests.scoring_fleet import MODEL, ScoringFleet, write_lines

NOON = datetime(2026, 1, 10, 12, tzinfo=UTC)
"""When a fleet begins."""


@dataclass
class ScheduleFleet:
    """One hub's duty of firing, and what a user may do; `scoring` runs what is begun."""

    scoring: ScoringFleet
    clock_file: Path

    def __post_init__(self) -> None:
        self.repository = ScheduleRepository(self.scoring.database)
        self.scheduler = Scheduler(self.repository, self.scoring.registry)
        self.firing = self.another_hub(self.scoring.database)

    def another_hub(self, database: Database, repair: JobRepair | None = None) -> ScheduleFiring:
        """The duty as another hub has it, over transactions of the test's choosing if it gives any."""
        return ScheduleFiring(
            repair or JobRepair(database),
            ModelRegistry(database),
            WorkerRegistry(database),
            store_url=self.scoring.store.url,
        )

    def set_clock(self, moment: datetime) -> None:
        """What time it is from now on."""
        unfinished = self.clock_file.with_suffix(".new")
        unfinished.write_text(moment.isoformat())
        unfinished.replace(self.clock_file)

    def definition(self, **options: Any) -> Definition:
        """One that scores `in/{date}` every midnight."""
        asked: dict[str, Any] = {
            "input": str(self.scoring.directory / "in" / "{date}*.jsonl"),
            "chunk_rows": 4,
        }
        asked |= {"output": str(self.scoring.directory / "out" / "{date}"), **options.pop("request", {})}
        return Definition(**{"cron": "0 0 * * *", "request": ScoringRequest(model=MODEL, **asked), **options})

    def write_input(self, name: str, rows: int = 6) -> None:
        """A file of input."""
        (self.scoring.directory / "in").mkdir(exist_ok=True)
        write_lines(self.scoring.directory / "in" / f"{name}.jsonl", [b"%d" % n for n in range(rows)])

    def work(self) -> None:
        """Fire, and run what is begun, until there is nothing more to do at this time."""
        while self.firing.run_once():
            for status in self.scoring.scorer.find(limit=100):
                if not status.done:
                    self.scoring.end(status)

    def history(self, name: str = "nightly") -> list[tuple[str, str]]:
        """Windows and their states, the oldest first."""
        found = reversed(self.scheduler.history(name, limit=1000))
        return [(f"{status.window_start:%m-%d}", status.state) for status in found]

    def window(self, name: str = "nightly") -> WindowStatus:
        """Its latest window."""
        return self.scheduler.history(name, limit=1)[0]


@contextmanager
def schedule_fleet(
    fleet: ScoringFleet, monkeypatch: pytest.MonkeyPatch, now: datetime
) -> Iterator[ScheduleFleet]:
    """A fleet at a time of the test's choosing."""
    clock_file = fleet.directory / "clock"
    monkeypatch.setenv(clock.VARIABLE, str(clock_file))
    monkeypatch.setenv(failpoints.CONSENT, "yes")
    schedules = ScheduleFleet(fleet, clock_file)
    schedules.set_clock(now)
    yield schedules
