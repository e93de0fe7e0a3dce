"""A hub's hold on one engine process: starting it, talking to it, and what it was at when it died."""

from __future__ import annotations

import logging
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from shunter.storage.job import Claim
from shunter.storage.model_registry import ModelVersion
from shunter.workers import messages
from shunter.workers.engine_arguments import EngineArguments
from shunter.workers.holdings import ModelKey

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FromEngine:
    """Something an engine said."""

    engine: EngineHandle
    message: messages.ToHub


@dataclass(frozen=True, slots=True)
class EngineGone:
    """An engine's process has ended; nothing more will come from it."""

    engine: EngineHandle
    returncode: int


EngineMail = FromEngine | EngineGone


@dataclass(frozen=True, slots=True)
class _Work:
    """What a stage has in hand, and since when."""

    claims: tuple[Claim, ...]
    since: float


@dataclass(eq=False)
class EngineHandle:
    """One engine; only the hub's own thread calls it.

    Its process gets a parent-death signal, which Linux sends when the thread that started it ends:
    so it must be started by a thread that lives as long as the hub.
    """

    model: ModelVersion
    device: str
    object_store: str
    mailbox: Callable[[EngineMail], None]
    loaded: bool = False
    stopping: bool = False
    verdict: str | None = None
    """Why we killed it, if we did."""
    started_at: float = field(default_factory=time.monotonic)
    _begun: dict[str, _Work] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            arguments = EngineArguments(
                fd=theirs.fileno(),
                model=self.model.name,
                version=self.model.version,
                directory=str(self.model.directory),
                device=self.device,
                object_store=self.object_store,
            )
            self._process = subprocess.Popen(
                arguments.command(), pass_fds=[arguments.fd], stdin=subprocess.DEVNULL
            )
        self._connection: Connection[messages.ToEngine, messages.ToHub] = Connection(ours.detach())
        threading.Thread(target=self._read, name=f"engine-{self.name}", daemon=True).start()

    @property
    def name(self) -> str:
        """For people: model and version."""
        return f"{self.model.name}:v{self.model.version}"

    @property
    def key(self) -> ModelKey:
        """What it serves."""
        return self.model.name, self.model.version

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def send(self, message: messages.ToEngine) -> None:
        """Say something; an engine that has gone does not hear it, and EngineGone tells."""
        try:
            self._connection.send(message)
        except OSError:
            log.debug("engine %s has gone before it could be told %s", self.name, type(message).__name__)

    def stop(self) -> None:
        """Have it finish what it has begun, and end."""
        self.stopping = True
        self.send(messages.Stop())

    def kill(self, verdict: str) -> None:
        """End it at once; EngineGone follows."""
        self.verdict = self.verdict or verdict
        self._process.kill()

    def note(self, message: messages.ToHub, now: float) -> None:
        """Keep track of what it has in its hands."""
        match message:
            case messages.Loaded():
                self.loaded = True
            case messages.Begun(stage, ()):
                self._begun.pop(stage, None)
            case messages.Begun(stage, claims):
                self._begun[stage] = _Work(claims, now)
            case _:
                pass

    @property
    def suspects(self) -> set[Claim]:
        """The claims that were in the model's hands when it was last heard of."""
        return {claim for work in self._begun.values() for claim in work.claims}

    def overdue(self, now: float) -> str | None:
        """What it has been at for too long, if anything."""
        config = self.model.config.run
        if not self.loaded:
            late = now - self.started_at > config.load_timeout_s
            return f"the model did not load within {config.load_timeout_s:g} s" if late else None
        for stage, work in self._begun.items():
            if now - work.since > config.batch_timeout_s:
                return f"{stage} took longer than batch_timeout_s, {config.batch_timeout_s:g} s"
        return None

    def _read(self) -> None:
        try:
            while True:
                self.mailbox(FromEngine(self, self._connection.recv()))
        except (EOFError, OSError):
            pass
        self.mailbox(EngineGone(self, self._process.wait()))
        self._connection.close()
