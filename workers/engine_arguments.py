"""What a hub tells a new engine on its command line."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineArguments:
    """Which model version to load, where, and `fd`, the engine's end of the inherited socket pair.

    `directory` is the version's directory, `object_store` the URL of the store.
    """

    model: str
    version: int
    directory: str
    device: str
    object_store: str
    fd: int

    @property
    def path(self) -> Path:
        """The version's directory."""
        return Path(self.directory)

    def command(self) -> list[str]:
        """The engine's command line; start it with `pass_fds=(fd,)`, from a thread that lives as long.

        The kernel kills the engine when the thread that started it ends.
        """
        return [sys.executable, "-P", "-m", "shunter.workers.engine", orjson.dumps(asdict(self)).decode()]

    @classmethod
    def parse(cls, text: str) -> EngineArguments:
        """Read the command line's last word."""
        return cls(**orjson.loads(text))
