"""The child process that holds one model: it loads it, runs jobs through it, and dies with its hub."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import NoReturn

from shunter.storage.errors import ModelError
from shunter.storage.model_config import ModelConfig
from shunter.storage.model_registry import read_config
from shunter.storage.object_store import open_object_store
from shunter.workers.assembly import JobRun
from shunter.workers.batcher import Batcher
from shunter.workers.engine_arguments import EngineArguments
from shunter.workers.line import Line
from shunter.workers.loaders import load_model
from shunter.workers.messages import Drop, Loaded, LoadFailed, Run, Stop, Stopped, ToEngine, ToHub
from shunter.workers.runner import Runner
from shunter.workers.stages import Stages

EXIT_STOPPED = 0
EXIT_CRASHED = 1
EXIT_LOAD_FAILED = 3
EXIT_ORPHANED = 4

SWITCH_INTERVAL_S = 0.0005
"""A stage that holds the interpreter gives way after this long, so that the model is not kept waiting."""

_PR_SET_PDEATHSIG = 1


class HubPipe:
    """The engine's end of the pipe; without a hub at the other end the process ends."""

    def __init__(self, fd: int) -> None:
        self._connection: Connection[ToHub, ToEngine] = Connection(fd)
        self._writing = threading.Lock()

    def send(self, message: ToHub) -> None:
        """Write a message; it has left the process when this returns. From any thread."""
        try:
            with self._writing:
                self._connection.send(message)
        except OSError:
            leave(EXIT_ORPHANED)

    def receive(self) -> ToEngine:
        """Wait for the next message."""
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            leave(EXIT_ORPHANED)


def main(arguments: EngineArguments) -> NoReturn:
    """Run one engine until its hub stops it or dies."""
    _bind_to_hub()
    hub = HubPipe(arguments.fd)
    try:
        config = read_config(arguments.path)
        line = _line(config)
        loaded = threading.Event()
        _start(lambda: _listen(hub, line, loaded), "listen")
        began = time.monotonic()
        runner = Runner(load_model(arguments.path, config, arguments.device), device=arguments.device)
        _warm_up(runner, config)
    except ModelError as error:
        hub.send(LoadFailed(error.message))
        leave(EXIT_LOAD_FAILED)
    # What loading made stays for good: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    loaded.set()
    hub.send(Loaded(load_s=time.monotonic() - began, max_rows=config.batching.max_rows))
    store = open_object_store(arguments.object_store)
    rows, signature = config.batching.max_rows, config.signature
    _run(Stages(line, runner, store, send=hub.send, bunch_rows=rows, signature=signature))
    hub.send(Stopped(line.returned))
    leave(EXIT_STOPPED)


def _line(config: ModelConfig) -> Line:
    limits = config.batching
    batcher: Batcher[JobRun] = Batcher(
        max_rows=limits.max_rows, max_tokens=limits.max_tokens, max_wait_s=limits.max_wait_s
    )
    return Line(batcher, bunch_rows=limits.max_rows)


def _run(stages: Stages) -> None:
    _start(stages.preprocess_jobs, "preprocess")
    _start(stages.gather_batches, "gather")
    _start(stages.finish_batches, "finish")
    stages.run_batches()


def _listen(hub: HubPipe, line: Line, loaded: threading.Event) -> None:
    while True:
        message = hub.receive()
        if isinstance(message, Run):
            line.accept(message)
        elif isinstance(message, Drop):
            line.drop(message.claim)
        elif isinstance(message, Stop):
            line.stop()
            if not loaded.is_set():
                hub.send(Stopped(line.returned))
                leave(EXIT_STOPPED)


def _warm_up(runner: Runner, config: ModelConfig) -> None:
    if config.run.warmup:
        runner.warm_up(config.signature.example_row(), rows=config.batching.max_rows)


def _bind_to_hub() -> None:
    """End with the hub, and only with it: a terminal's Ctrl-C is for the hub, which then says Stop."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM):
        # Not SIG_IGN, which the model's own child processes would inherit.
        signal.signal(number, lambda *_: None)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # A stage that dies would leave the others waiting for it.
    sys.excepthook = _crash
    threading.excepthook = lambda failure: _crash(failure.exc_type, failure.exc_value, failure.exc_traceback)


def _start(target: Callable[[], None], name: str) -> None:
    threading.Thread(target=target, name=name, daemon=True).start()


def _crash(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> NoReturn:
    traceback.print_exception(kind, error, trace)
    leave(EXIT_CRASHED)


def leave(code: int) -> NoReturn:
    """End the process at once: what a model's own threads or exit handlers do must not keep it alive."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(EngineArguments.parse(sys.argv[1]))
