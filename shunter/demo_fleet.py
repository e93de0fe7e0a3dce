"""What every demo does around its own model: a fleet in a temporary directory, and what became of it."""

from __future__ import annotations

import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from shunter import demo_checks
from shunter.local_fleet import FleetOptions, LocalFleet
from shunter.storage.database import Database
from shunter.storage.errors import ShunterError
from shunter.storage.settings import Settings
from shunter.storage.worker_registry import WorkerRegistry

VERSION = 1
STATS_WITHIN_S = 5.0  # workers tell them with their heartbeat

Prepared = TypeVar("Prepared")


class FleetDemo(ABC, Generic[Prepared]):
    """One run, told on the console as it goes."""

    model: str

    def __init__(self, settings: Settings, console: Console) -> None:
        self._settings = settings
        self._console = console

    @abstractmethod
    def prepare(self, models: Path) -> Prepared:
        """Publish the model, and work out what it must answer."""

    @abstractmethod
    def use(self, fleet: LocalFleet, prepared: Prepared) -> list[str]:
        """Run jobs through the fleet; everything that is wrong with the answers."""

    def run(self, *, keep: bool) -> bool:
        """Whether every result was right."""
        directory = Path(tempfile.mkdtemp(prefix="shunter-demo-"))
        # Started by root, Postgres may have to run as another user, who must get through.
        directory.chmod(0o755)
        passed = False
        try:
            prepared = self.prepare(directory / "models")
            passed = self._run_fleet(directory, prepared, keep=keep)
        except KeyboardInterrupt:
            passed = True  # nothing went wrong that somebody would want to look into
            raise
        finally:
            self._tidy(directory, passed=passed)
        return passed

    def tell_batches(self, fleet: LocalFleet, *, at_least: int) -> None:
        """The sizes of the batches that the worker made of at least so many rows."""
        stats = _stats(fleet, f"{self.model}:{VERSION}", at_least=at_least)
        if stats is None:
            self.say("the workers have not told of their batches yet")
            return
        self.say(f"{stats['rows']} rows in {stats['batches']} batches:")
        for line in demo_checks.histogram(stats["sizes"]):
            self._console.print(line, highlight=False)
        stage, share = demo_checks.slowest_stage(stats["seconds"])
        self.say(f"slowest stage: {stage}, {share:.0%} of the model's time")

    def progress(self) -> Progress:
        """A bar for something that takes a while."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        return Progress(*columns, console=self._console)

    def say(self, message: str) -> None:
        """A line for whoever watches."""
        self._console.print(message, highlight=False, markup=False)

    def _run_fleet(self, directory: Path, prepared: Prepared, *, keep: bool) -> bool:
        options = FleetOptions(
            data=directory / "data", models=directory / "models", port=0, external=self._settings
        )
        began = time.monotonic()
        with LocalFleet(options, say=self.say) as fleet:
            self.say(f"fleet ready in {time.monotonic() - began:.1f} s")
            self.say(f"api={fleet.api_url}  docs={fleet.api_url}/docs  flower={fleet.flower_url}")
            try:
                problems = self.use(fleet, prepared)
            except ShunterError as error:
                problems = [f"{error.code}: {error.message}"]
            self._conclude(problems)
            if keep:
                self._keep(fleet)
        return not problems

    def _tidy(self, directory: Path, *, passed: bool) -> None:
        if passed or not (directory / "data").exists():
            shutil.rmtree(directory)
        else:
            self.say(f"its data and logs are left in {directory}: remove it when you have looked into them")

    def _conclude(self, problems: Sequence[str]) -> None:
        for problem in problems[: demo_checks.WORST_SHOWN]:
            self._console.print(f"[red]wrong:[/red] {problem}")
        if problems:
            self._console.print(f"[red]failed:[/red] {len(problems)} wrong")
        else:
            self._console.print("[green]passed:[/green] every result was checked")

    def _keep(self, fleet: LocalFleet) -> None:
        self.say(f"in another shell: eval $(shunter env --data {fleet.directory.path})")
        self.say("Ctrl-C ends it")
        try:
            while True:
                time.sleep(1)
                fleet.mend()
        except KeyboardInterrupt:
            self.say("stopping")


def _stats(fleet: LocalFleet, model: str, *, at_least: int) -> dict[str, Any] | None:
    """What the worker counted, as soon as it tells of so many rows."""
    database = Database(fleet.settings.database_url, pool_size=1)
    deadline = time.monotonic() + STATS_WITHIN_S
    try:
        while time.monotonic() < deadline:
            for worker in WorkerRegistry(database).present():
                told = worker.stats.get(model)
                if told is not None and told["rows"] >= at_least:
                    return dict(told)
            time.sleep(0.1)
    finally:
        database.close()
    return None
