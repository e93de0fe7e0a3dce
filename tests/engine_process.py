"""A real engine process under test, and the hub's end of its pipe."""

from __future__ import annotations

import os
import socket
import subprocess
import textwrap
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from shunter.storage.ceiling import Ceiling
from shunter.storage.ids import new_id
from shunter.storage.job import Claim, ClaimedJob, Priority
from shunter.storage.outcome import Outcome
from shunter.storage.payload import decode_rows, encode_rows
from shunter.workers.engine_arguments import EngineArguments
from shunter.workers.messages import (
    BatchDone,
    Begun,
    Finished,
    Loaded,
    Run,
    Stop,
    ToEngine,
    ToHub,
)
from shunter.workers.pickling import dumps, loads
from shunter.workers.spans import Span, Spans

PATIENCE_S = 60.0
"""How long to wait for an engine's word before the test fails."""

DOUBLE = """
    import sys
    import numpy as np

    class Model:
        def forward(self, rows):
            assert "torch" not in sys.modules
            return np.stack(rows) * 2
"""

# Its forward waits for a file, so that a test decides when the first batch ends.
GATED = """
    import os, time

    class Model:
        def load(self, directory, device, **params):
            self.gate = directory / "gate"

        def forward(self, rows):
            (self.gate.parent / "inside").touch()
            while not self.gate.exists():
                time.sleep(0.005)
            return rows
"""


FOREVER = """
    import time

    class Model:
        def load(self, *_):
            time.sleep(600)

        def forward(self, rows): ...
"""

MessageT = TypeVar("MessageT", bound=ToHub)


def write_model(
    models: Path, code: str = "", *, config: str = "", name: str = "tiny", version: int = 1
) -> Path:
    """A version directory with this model.py and model.toml."""
    directory = models / name / str(version)
    directory.mkdir(parents=True)
    if code:
        (directory / "model.py").write_text(textwrap.dedent(code))
    if config:
        (directory / "model.toml").write_text(textwrap.dedent(config))
    return directory


def job_of(
    rows: Sequence[Any], *, block: bytes | None = None, input_key: str | None = None, **fields: Any
) -> ClaimedJob:
    """A job as a hub would have claimed it."""
    inline = None if input_key else encode_rows(rows) if block is None else block
    defaults: dict[str, Any] = {
        "id": new_id(),
        "epoch": 1,
        "model": "tiny",
        "version": 1,
        "rows": len(rows),
        "priority": Priority.STANDARD,
        "attempts": 0,
        "deaths": 0,
        "deadline_in_s": None,
        "queued_s": 0.0,
    }
    return ClaimedJob(**{**defaults, **fields}, input=inline, input_key=input_key)


def claim_of(job: ClaimedJob) -> Claim:
    """The hub's hold on a job."""
    return Claim(job.id, job.epoch)


def spans_of_jobs(*jobs: ClaimedJob) -> Spans:
    """Every row of some jobs, as a stage announces them."""
    return tuple(Span(claim_of(job), 0, job.rows) for job in jobs)


def outputs_of(outcome: Outcome) -> list[Any]:
    """The outputs that an outcome carries inline."""
    assert outcome.output is not None
    assert outcome.output.inline is not None
    return decode_rows(outcome.output.inline)


class EngineProcess:
    """Starts an engine for a version directory; ends with it, whatever the test did."""

    def __init__(
        self, directory: Path, *, store: Path | str | None = None, ceilings: tuple[Ceiling, ...] = ()
    ) -> None:
        ours, theirs = socket.socketpair()
        where = store or directory.parent / "objects"
        arguments = EngineArguments(
            model=directory.parent.name,
            version=int(directory.name),
            directory=str(directory),
            device="cpu",
            object_store=where if isinstance(where, str) else where.absolute().as_uri(),
            fd=theirs.fileno(),
            ceilings=ceilings,
        )
        self.process = subprocess.Popen(
            arguments.command(),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        theirs.close()
        self.connection: Connection[bytes, bytes] = Connection(ours.detach())
        self.heard: list[ToHub] = []
        self._unheard: deque[ToHub] = deque()

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        if not self.connection.closed:
            self.connection.close()

    def send(self, *messages: ToEngine) -> None:
        """Say some things together."""
        self.connection.send_bytes(dumps(messages))

    def receive(self) -> ToHub:
        """The next message, whatever it is."""
        if not self._unheard:
            assert self.connection.poll(PATIENCE_S), f"the engine said nothing more after {self.heard[-5:]}"
            self._unheard += loads(self.connection.recv_bytes())
        message = self._unheard.popleft()
        self.heard.append(message)
        return message

    def wait_for(self, kind: type[MessageT]) -> MessageT:
        """The next message of a kind; the others are kept in `heard`."""
        while not isinstance(message := self.receive(), kind):
            pass
        return message

    def loaded(self) -> EngineProcess:
        """This engine, once its model is loaded."""
        self.wait_for(Loaded)
        return self

    def run(self, *jobs: ClaimedJob) -> list[Outcome]:
        """The outcomes of some jobs, in the order of the jobs."""
        for job in jobs:
            self.send(Run(job))
        outcomes = {outcome.id: outcome for outcome in self.outcomes(len(jobs))}
        return [outcomes[job.id] for job in jobs]

    def outcomes(self, count: int) -> list[Outcome]:
        """The next outcomes, in the order in which they come."""
        found: list[Outcome] = []
        while len(found) < count:
            found += self.wait_for(Finished).outcomes
        assert len({outcome.id for outcome in found}) == count, "an outcome came twice, or one too many"
        return found

    def run_rows(self, rows: Sequence[Any]) -> Outcome:
        """The outcome of one job."""
        (outcome,) = self.run(job_of(rows))
        return outcome

    def stop(self) -> list[Outcome]:
        """Stop the engine; the outcomes of the jobs that it finishes first."""
        self.send(Stop())
        began = len(self.heard)
        with suppress(EOFError):
            while True:
                self.receive()
        assert self.process.wait(PATIENCE_S) == 0
        finished = [message for message in self.heard[began:] if isinstance(message, Finished)]
        return [outcome for message in finished for outcome in message.outcomes]

    @property
    def batches(self) -> list[BatchDone]:
        """Every batch so far."""
        return [message for message in self.heard if isinstance(message, BatchDone)]

    @property
    def begun(self) -> list[Begun]:
        """Every announcement so far."""
        return [message for message in self.heard if isinstance(message, Begun)]


def start_engine(directory: Path, code: str = "", config: str = "") -> EngineProcess:
    """An engine for a model of one version in `directory`, with its objects there too."""
    return EngineProcess(write_model(directory, code, config=config), store=directory / "objects")
