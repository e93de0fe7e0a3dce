"""The demo: a model trained here, 1797 real images through a real fleet, and every result checked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from shunter import demo_checks
from shunter.demo_checks import Answer
from shunter.demo_fleet import VERSION, FleetDemo
from shunter.local_fleet import LocalFleet
from shunter.producers.client import Client
from shunter.storage.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from shunter.demo_model.training import Digits

HTTP_JOBS = 4
HTTP_ROWS = 8
LEAST_ACCURACY = 0.97
RESULTS_WITHIN_S = 120.0


@dataclass(frozen=True, slots=True)
class Trained:
    """The published model and what it must answer."""

    digits: Digits
    expected: NDArray[np.float32]


class Demo(FleetDemo[Trained]):
    """Handwritten digits, over HTTP and as single items."""

    model = "shunter-demo"

    def prepare(self, models: Path) -> Trained:
        """Train the model, and ask it about every image."""
        from shunter.demo_model import training

        digits, network = training.load_digits(), training.new_network()
        began = time.monotonic()
        with self.progress() as progress:
            for _ in progress.track(
                training.train(digits, network), training.EPOCHS, description="training a small CNN"
            ):
                pass
        expected = training.predict(training.publish(network, models, self.model), digits)
        right = expected.argmax(axis=1) == digits.labels
        self.say(
            f"trained in {time.monotonic() - began:.1f} s on {int((~digits.held_out).sum())} images; "
            f"{right[digits.held_out].mean():.1%} of the other {int(digits.held_out.sum())} are read right"
        )
        return Trained(digits, expected)

    def use(self, fleet: LocalFleet, prepared: Trained) -> list[str]:
        """Check every image's answer, over both ways."""
        over_http = self._submit_over_http(fleet, prepared)
        items = self._submit_items(fleet, prepared)
        problems = demo_checks.check(items, prepared.expected)
        images = HTTP_JOBS * HTTP_ROWS
        problems += demo_checks.check(over_http, prepared.expected[:images])
        if not problems:
            problems += self._judge(items, prepared)
        self.tell_batches(fleet, at_least=len(items) + len(over_http))
        return problems

    def _submit_over_http(self, fleet: LocalFleet, trained: Trained) -> list[Answer]:
        """A few jobs through the API; the first one also makes the worker load the model."""
        began = time.monotonic()
        with Client(fleet.api_url) as client:
            starts = range(0, HTTP_JOBS * HTTP_ROWS, HTTP_ROWS)
            images = trained.digits.images
            jobs = [
                client.submit(self.model, images[at : at + HTTP_ROWS].tolist(), version=VERSION)
                for at in starts
            ]
            answers = []
            for at, job in zip(starts, jobs, strict=True):
                state = job.wait(RESULTS_WITHIN_S).state
                for row, output in enumerate(job.outputs(errors="none")):
                    answers.append(Answer(f"{job.id}.{row}", state, at + row, output))
        self.say(
            f"{len(answers)} images in {len(jobs)} jobs over HTTP: {time.monotonic() - began:.1f} s, "
            "of which most for loading the model"
        )
        self._console.print_json(_get(fleet.api_url, f"/v1/jobs/{jobs[-1].id}"))
        return answers

    def _submit_items(self, fleet: LocalFleet, trained: Trained) -> list[Answer]:
        """Every image as an item of its own; each is then looked up by its own id."""
        with Client(settings=fleet.settings) as client, self.progress() as progress:
            bar = progress.add_task("single images", total=len(trained.expected))
            began = time.monotonic()
            items = client.submit_many(self.model, list(trained.digits.images), version=VERSION)
            for _ in client.as_completed(items, RESULTS_WITHIN_S):
                progress.advance(bar)
            took_s = time.monotonic() - began
            answers = [_look_up(client, item.id, image) for image, item in enumerate(items)]
        self.say(f"{len(items)} items in {took_s:.2f} s: {len(items) / took_s:,.0f} items/s")
        return answers

    def _judge(self, items: Sequence[Answer], trained: Trained) -> list[str]:
        self.say(f"{len(items)} items polled by their ids: each succeeded, and equals a direct forward")
        reached = demo_checks.accuracy(items, trained.digits.labels)
        self.say(f"accuracy {reached:.2%}")
        return [] if reached >= LEAST_ACCURACY else [f"accuracy {reached:.2%} is below {LEAST_ACCURACY:.0%}"]


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
