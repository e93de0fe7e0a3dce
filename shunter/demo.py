"""The demo: a model trained here, 1797 real images through a real fleet, and every result checked."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from shunter import demo_checks
from shunter.demo_checks import Answer
from shunter.local import FleetOptions, LocalFleet
from shunter.producers.client import Client
from shunter.storage.database import Database
from shunter.storage.errors import ShunterError
from shunter.storage.settings import Settings
from shunter.storage.worker_registry import WorkerRegistry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from shunter.demo_model.training import Digits

MODEL = "shunter-demo"
VERSION = 1
HTTP_JOBS = 4
HTTP_ROWS = 8
LEAST_ACCURACY = 0.97
RESULTS_WITHIN_S = 120.0
STATS_WITHIN_S = 5.0  # workers tell them with their heartbeat


@dataclass(frozen=True, slots=True)
class Trained:
    """The published model and what it must answer."""

    digits: Digits
    models: Path
    expected: NDArray[np.float32]


class Demo:
    """One run, told on the console as it goes."""

    def __init__(self, settings: Settings, console: Console) -> None:
        self._settings = settings
        self._console = console

    def run(self, *, keep: bool) -> bool:
        """Whether every result was right."""
        directory = Path(tempfile.mkdtemp(prefix="shunter-demo-"))
        # Started by root, Postgres may have to run as another user, who must get through.
        directory.chmod(0o755)
        passed = False
        try:
            trained = self._train(directory / "models")
            passed = self._run_fleet(directory / "data", trained, keep=keep)
        except KeyboardInterrupt:
            passed = True  # nothing went wrong that somebody would want to look into
            raise
        finally:
            self._tidy(directory, passed=passed)
        return passed

    def _train(self, models: Path) -> Trained:
        from shunter.demo_model import training

        digits, network = training.load_digits(), training.new_network()
        began = time.monotonic()
        with self._progress() as progress:
            for _ in progress.track(
                training.train(digits, network), training.EPOCHS, description="training a small CNN"
            ):
                pass
        expected = training.predict(training.publish(network, models, MODEL), digits)
        right = expected.argmax(axis=1) == digits.labels
        self._say(
            f"trained in {time.monotonic() - began:.1f} s on {int((~digits.held_out).sum())} images; "
            f"{right[digits.held_out].mean():.1%} of the other {int(digits.held_out.sum())} are read right"
        )
        return Trained(digits, models, expected)

    def _run_fleet(self, data: Path, trained: Trained, *, keep: bool) -> bool:
        options = FleetOptions(data=data, models=trained.models, port=0, external=self._settings)
        began = time.monotonic()
        with LocalFleet(options, say=self._say) as fleet:
            self._say(f"fleet ready in {time.monotonic() - began:.1f} s")
            self._say(f"api={fleet.api_url}  docs={fleet.api_url}/docs  flower={fleet.flower_url}")
            problems = self._use(fleet, trained)
            self._conclude(problems)
            if keep:
                self._keep(fleet)
        return not problems

    def _tidy(self, directory: Path, *, passed: bool) -> None:
        if passed or not (directory / "data").exists():
            shutil.rmtree(directory)
        else:
            self._say(f"its data and logs are left in {directory}: remove it when you have looked into them")

    def _use(self, fleet: LocalFleet, trained: Trained) -> list[str]:
        try:
            over_http = self._submit_over_http(fleet, trained)
            items = self._submit_items(fleet, trained)
        except ShunterError as error:
            return [f"{error.code}: {error.message}"]
        problems = demo_checks.check(items, trained.expected)
        images = HTTP_JOBS * HTTP_ROWS
        problems += demo_checks.check(over_http, trained.expected[:images])
        if not problems:
            problems += self._judge(items, trained)
        self._tell_batches(fleet, at_least=len(items) + len(over_http))
        return problems

    def _submit_over_http(self, fleet: LocalFleet, trained: Trained) -> list[Answer]:
        """A few jobs through the API; the first one also makes the worker load the model."""
        began = time.monotonic()
        with Client(fleet.api_url) as client:
            starts = range(0, HTTP_JOBS * HTTP_ROWS, HTTP_ROWS)
            images = trained.digits.images
            jobs = [
                client.submit(MODEL, images[at : at + HTTP_ROWS].tolist(), version=VERSION) for at in starts
            ]
            answers = []
            for at, job in zip(starts, jobs, strict=True):
                state = job.wait(RESULTS_WITHIN_S).state
                for row, output in enumerate(job.outputs(errors="none")):
                    answers.append(Answer(f"{job.id}.{row}", state, at + row, output))
        self._say(
            f"{len(answers)} images in {len(jobs)} jobs over HTTP: {time.monotonic() - began:.1f} s, "
            "of which most for loading the model"
        )
        self._console.print_json(_get(fleet.api_url, f"/v1/jobs/{jobs[-1].id}"))
        return answers

    def _submit_items(self, fleet: LocalFleet, trained: Trained) -> list[Answer]:
        """Every image as an item of its own; each is then looked up by its own id."""
        with Client(settings=fleet.settings) as client, self._progress() as progress:
            bar = progress.add_task("single images", total=len(trained.expected))
            began = time.monotonic()
            items = client.submit_many(MODEL, list(trained.digits.images), version=VERSION)
            for _ in client.as_completed(items, RESULTS_WITHIN_S):
                progress.advance(bar)
            took_s = time.monotonic() - began
            answers = [_look_up(client, item.id, image) for image, item in enumerate(items)]
        self._say(f"{len(items)} items in {took_s:.2f} s: {len(items) / took_s:,.0f} items/s")
        return answers

    def _judge(self, items: Sequence[Answer], trained: Trained) -> list[str]:
        self._say(f"{len(items)} items polled by their ids: each succeeded, and equals a direct forward")
        reached = demo_checks.accuracy(items, trained.digits.labels)
        self._say(f"accuracy {reached:.2%}")
        return [] if reached >= LEAST_ACCURACY else [f"accuracy {reached:.2%} is below {LEAST_ACCURACY:.0%}"]

    def _tell_batches(self, fleet: LocalFleet, *, at_least: int) -> None:
        stats = _stats(fleet, at_least=at_least)
        if stats is None:
            self._say("the workers have not told of their batches yet")
            return
        self._say(f"{stats['rows']} rows in {stats['batches']} batches:")
        for line in demo_checks.histogram(stats["sizes"]):
            self._console.print(line, highlight=False)
        stage, share = demo_checks.slowest_stage(stats["seconds"])
        self._say(f"slowest stage: {stage}, {share:.0%} of the model's time")

    def _conclude(self, problems: Sequence[str]) -> None:
        for problem in problems[: demo_checks.WORST_SHOWN]:
            self._console.print(f"[red]wrong:[/red] {problem}")
        if problems:
            self._console.print(f"[red]failed:[/red] {len(problems)} wrong")
        else:
            self._console.print("[green]passed:[/green] every result was checked")

    def _keep(self, fleet: LocalFleet) -> None:
        self._say(f"in another shell: eval $(shunter env --data {fleet.directory.path})")
        self._say("Ctrl-C ends it")
        try:
            while True:
                time.sleep(1)
                fleet.mend()
        except KeyboardInterrupt:
            self._say("stopping")

    def _progress(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        return Progress(*columns, console=self._console)

    def _say(self, message: str) -> None:
        self._console.print(message, highlight=False, markup=False)


def run_demo(settings: Settings, *, keep: bool) -> bool:
    """Run the demo; whether every result was checked and right."""
    return Demo(settings, Console(soft_wrap=True)).run(keep=keep)


def _look_up(client: Client, id: str, image: int) -> Answer:
    handle = client.job(id)
    state = handle.status().state
    return Answer(id, state, image, handle.outputs(errors="none")[0])


def _get(api_url: str, path: str) -> str:
    connection = HTTPConnection(api_url.removeprefix("http://"), timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def _stats(fleet: LocalFleet, *, at_least: int) -> dict[str, Any] | None:
    """What the worker counted, as soon as it tells of so many rows."""
    database = Database(fleet.settings.database_url, pool_size=1)
    deadline = time.monotonic() + STATS_WITHIN_S
    try:
        while time.monotonic() < deadline:
            for worker in WorkerRegistry(database).present():
                told = worker.stats.get(f"{MODEL}:{VERSION}")
                if told is not None and told["rows"] >= at_least:
                    return dict(told)
            time.sleep(0.1)
    finally:
        database.close()
    return None
