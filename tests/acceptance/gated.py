"""A model that a test can look into and hold: it says when a batch has begun, and waits to be let go."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.fleet import write_model
from tests.waiting import wait_until

SOURCE = """
import os
import time
from pathlib import Path


class Model:
    def load(self, directory, device, *, folder):
        self.folder = Path(folder)

    def forward(self, rows):
        with (self.folder / "begun").open("a") as log:
            log.write(f"{os.getpid()} {len(rows)}\\n")
        while not (self.folder / "open").exists():
            time.sleep(0.01)
        return [row + 1 for row in rows]
"""


class Gate:
    """The test's side of a gated model, through files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def publish(self, models: Path, name: str, *, toml: str = "") -> None:
        """Put the model into a models directory; its gate is shut."""
        self.folder.mkdir()
        write_model(models, name, SOURCE, toml=f'{toml}\n[params]\nfolder = "{self.folder}"\n')

    def begun(self) -> list[int]:
        """The engine process of each batch that has begun, in order."""
        log = self.folder / "begun"
        return [int(line.split()[0]) for line in log.read_text().splitlines()] if log.exists() else []

    def wait_for_batch(self, count: int = 1, *, timeout_s: float = 30.0) -> int:
        """The engine process of the `count`-th batch, once it has begun."""
        wait_until(lambda: len(self.begun()) >= count, timeout_s=timeout_s)
        return self.begun()[count - 1]

    def open(self) -> None:
        """Let every batch go, now and later."""
        (self.folder / "open").touch()
