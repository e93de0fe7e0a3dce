"""A hub's hold on one engine process: starting it, talking to it, and what it was at when it died."""

from __future__ import annotations

import logging
import math
import select
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from queue import SimpleQueue

from shunter.storage.ceiling import Ceiling
from shunter.storage.model_registry import ModelVersion
from shunter.storage.worker_registry import AtWork
from shunter.workers import messages
from shunter.workers.engine_arguments import EngineArguments
from shunter.workers.holdings import ModelKey
from shunter.workers.messages import PROBE
from shunter.workers.pickling import dumps, loads
from shunter.workers.spans import Spans, claims_of
from shunter.workers.suspicion import PROBE_PATIENCE

log = logging.getLogger(__name__)

LIKELIEST = ("forward", "postprocess", "gather", "preprocess", "decode", PROBE)
"""Which stage is suspected first when an engine dies with several at work."""

AT_ONCE_BYTES = 8 * 1024
"""A pipe that is ready to be written takes so much without waiting for its reader."""


@dataclass(frozen=True, slots=True)
class FromEngine:
    """What an engine said at one moment."""

    engine: EngineHandle
    messages: Sequence[messages.ToHub]


@dataclass(frozen=True, slots=True)
class EngineGone:
    """An engine's process has ended; nothing more will come from it."""

    engine: EngineHandle
    returncode: int


EngineMail = FromEngine | EngineGone


@dataclass(frozen=True, slots=True)
class _Work:
    """What a stage has in hand, since when, and how long that may take."""

    spans: Spans
    since: float
    limit_s: float


@dataclass(eq=False)
class EngineHandle:
    """One engine; only the hub's own thread calls it.

    Its process gets a parent-death signal, which Linux sends when the thread that started it ends:
    so it must be started by a thread that lives as long as the hub.
    """

    model: ModelVersion
    device: str
    object_store: str
    ceilings: tuple[Ceiling, ...]
    mailbox: Callable[[EngineMail], None]
    loaded: bool = False
    stopping: bool = False
    verdict: str | None = None
    """Why we killed it, if we did."""
    started_at: float = field(default_factory=time.monotonic)
    overdue_stage: str | None = None
    """The stage that we killed it for, if it was one."""
    _begun: dict[str, _Work] = field(default_factory=dict)
    _unsaid: list[messages.ToEngine] = field(default_factory=list)
    _outbox: SimpleQueue[bytes | None] = field(default_factory=SimpleQueue)
    _queued: int = 0
    _written: int = 0
    """Of what was put into the outbox; the two are counted by a thread each."""

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
                ceilings=self.ceilings,
            )
            self._process = subprocess.Popen(
                arguments.command(), pass_fds=[arguments.fd], stdin=subprocess.DEVNULL
            )
        self._connection: Connection[bytes, bytes] = Connection(ours.detach())
        threading.Thread(target=self._read, name=f"from-{self.name}", daemon=True).start()
        threading.Thread(target=self._write, name=f"to-{self.name}", daemon=True).start()

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

    def send(self, *said: messages.ToEngine) -> None:
        """Have something said with the next `flush`."""
        self._unsaid += said

    def flush(self) -> None:
        """Say it all at once; an engine that has gone does not hear it, and EngineGone tells."""
        unsaid, self._unsaid = self._unsaid, []
        if unsaid:
            said = dumps(unsaid)
            if not self._write_at_once(said):
                self._queued += 1
                self._outbox.put(said)

    def close(self) -> None:
        """It has gone: nothing more is said."""
        self._outbox.put(None)

    def stop(self) -> None:
        """Have it finish what it has begun, and end."""
        self.stopping = True
        self.send(messages.Stop())

    def kill(self, verdict: str) -> None:
        """End it at once; EngineGone follows."""
        log.error("engine %s is killed: %s", self.name, verdict)
        self.verdict = self.verdict or verdict
        self._process.kill()

    def begun(self, message: messages.Begun, now: float, *, limit_s: float) -> float:
        """Keep track of what it has in its hands, and may have for `limit_s`.

        Returns for how many seconds it has had what the stage puts down; 0 if that was nothing.
        """
        done = self._begun.pop(message.stage, None)
        if message.spans:
            # The stages that a probe passes have their own limits.
            limit_s = math.inf if message.stage == PROBE else limit_s
            self._begun[message.stage] = _Work(message.spans, now, limit_s)
        return now - done.since if done is not None and message.stage != PROBE else 0.0

    @property
    def announced(self) -> list[Spans]:
        """What was in the hands of each stage when it was last heard of, the likeliest culprit first."""
        likeliest = (self.overdue_stage, *LIKELIEST)
        stages = sorted(self._begun, key=likeliest.index)
        return [self._begun[stage].spans for stage in stages]

    def at_work(self, now: float) -> AtWork | None:
        """What it has in its hands: the batch in the model, or else what is on its way there or back."""
        if not self._begun:
            return None
        stage = min(self._begun, key=LIKELIEST.index)
        work = self._begun[stage]
        rows = sum(span.stop - span.start for span in work.spans)
        return AtWork(stage, rows, jobs=len(claims_of(work.spans)), for_s=round(now - work.since, 3))

    def kill_overdue(self, now: float) -> None:
        """End it if it has been at one thing for too long."""
        if self.verdict is not None:
            return
        config = self.model.config.run
        if not self.loaded:
            if now - self.started_at > config.load_timeout_s:
                self.kill(f"the model did not load within {config.load_timeout_s:g} s")
            return
        for stage, work in self._begun.items():
            if now - work.since > work.limit_s:
                self.overdue_stage = stage
                self.kill(_too_long(stage, work.limit_s, config.batch_timeout_s))
                return

    def _read(self) -> None:
        while (said := self._hear()) is not None:
            self.mailbox(FromEngine(self, said))
        self.mailbox(EngineGone(self, self._process.wait()))

    def _hear(self) -> Sequence[messages.ToHub] | None:
        """What it says next, None when it has gone."""
        try:
            return loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            return None

    def _write_at_once(self, said: bytes) -> bool:
        """Whether it is written already: it is short, nothing is before it, and the pipe has room."""
        if len(said) > AT_ONCE_BYTES or self._queued != self._written:
            return False
        with suppress(OSError):
            room = select.poll()
            room.register(self._connection, select.POLLOUT)
            if not room.poll(0):
                return False
            self._connection.send_bytes(said)
        return True

    def _write(self) -> None:
        # On a thread of its own: an engine whose model holds the interpreter does not read, and must not
        # keep the hub from the other engines, nor from finding out that it hangs.
        while (said := self._outbox.get()) is not None:
            with suppress(OSError):
                self._connection.send_bytes(said)
            self._written += 1
        self._connection.close()


def _too_long(stage: str, limit_s: float, batch_timeout_s: float) -> str:
    if limit_s < batch_timeout_s:
        usual = f"{PROBE_PATIENCE:g} times what the slowest batch took"
        return f"{stage} took longer than {limit_s:.3g} s, {usual} (batch_timeout_s is {batch_timeout_s:g} s)"
    return f"{stage} took longer than batch_timeout_s, {batch_timeout_s:g} s"
