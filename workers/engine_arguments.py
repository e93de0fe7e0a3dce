"""What a hub tells a new engine on its command line."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from shunter.storage.ceiling import Ceiling


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineArguments:
    """Which model version to load, where, and `fd`, the engine's end of the inherited socket pair.

    `directory` is the version's directory, `object_store` the URL of the store; `ceilings` are known
    for this model version on any kind of device.
    """

    model: str
    version: int
    directory: str
    device: str
    object_store: str
    fd: int
    ceilings: tuple[Ceiling, ...] = ()

    @property
    def path(self) -> Path:
        """The version's directory."""
        return Path(self.directory)

    def command(self) -> list[str]:
        """The engine's command line; start it with `pass_fds=(fd,)`, from a thread that lives as long.

        The kernel kills the engine when the thread that started it ends.
        """
        fields = {**asdict(self), "ceilings": [tuple(ceiling) for ceiling in self.ceilings]}
        return [sys.executable, "-P", "-m", "shunter.workers.engine", orjson.dumps(fields).decode()]

    @classmethod
    def parse(cls, text: str) -> EngineArguments:
        """Read the command line's last word."""
        fields = orjson.loads(text)
        ceilings = tuple(Ceiling(*ceiling) for ceiling in fields.pop("ceilings"))
        return cls(**fields, ceilings=ceilings)
