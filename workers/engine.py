"""The child process that holds one model: it loads it, runs jobs through it, and dies with its hub."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from multiprocessing.connection import Connection
from types import TracebackType
from typing import NoReturn

from shunter.storage import failpoints
from shunter.storage.errors import ModelError, ModelLoadError
from shunter.storage.log_lines import log_to
from shunter.storage.model_config import ModelConfig
from shunter.storage.model_registry import read_config
from shunter.storage.object_store import open_object_store
from shunter.storage.reference_reader import ReferenceReader
from shunter.storage.settings import fetch_prefixes
from shunter.workers.assembly import JobRun
from shunter.workers.batcher import Batcher
from shunter.workers.ceilings import Ceilings
from shunter.workers.engine_arguments import EngineArguments
from shunter.workers.inputs_ahead import InputsAhead
from shunter.workers.lifeline import EXIT_ORPHANED, bind_to_parent, leave
from shunter.workers.line import AHEAD_BYTES, Line
from shunter.workers.loaders import load_model
from shunter.workers.memory_kind import memory_kind
from shunter.workers.messages import (
    Drop,
    Loaded,
    LoadFailed,
    MemoryFull,
    Probe,
    Run,
    Stop,
    ToEngine,
    ToHub,
)
from shunter.workers.pickling import dumps, loads
from shunter.workers.preprocess_pool import PreprocessPool
from shunter.workers.references import References
from shunter.workers.runner import Runner
from shunter.workers.stages import Stages
from shunter.workers.warmup import warm_up

EXIT_STOPPED = 0
EXIT_CRASHED = 1
EXIT_LOAD_FAILED = 3

SWITCH_INTERVAL_S = 0.0005
"""A stage that holds the interpreter gives way after this long, so that the model is not kept waiting."""

COLLECT_AFTER = 10_000
"""The collector of cycles looks at an engine's objects after so many new ones: a chunk's rows are more, and
live until they have been through the model. Not later, as a model's own cycles may hold tensors."""


class HubPipe:
    """The engine's end of the pipe; without a hub at the other end the process ends."""

    def __init__(self, fd: int) -> None:
        self._connection: Connection[bytes, bytes] = Connection(fd)
        self._writing = threading.Lock()

    def send(self, messages: Sequence[ToHub]) -> None:
        """Write messages together; they have left the process when this returns. From any thread."""
        try:
            with self._writing:
                self._connection.send_bytes(dumps(messages))
        except OSError:
            leave(EXIT_ORPHANED)

    def receive(self) -> list[ToEngine]:
        """Wait for the next messages; those that were said together come together."""
        try:
            return loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            leave(EXIT_ORPHANED)


def main(arguments: EngineArguments) -> NoReturn:
    """Run one engine until its hub stops it or dies."""
    _bind_to_hub()
    _log_to_stderr()
    failpoints.arm()
    hub = HubPipe(arguments.fd)
    store = open_object_store(arguments.object_store)
    inputs = InputsAhead(store)
    loaded: Future[Stages] = Future()
    try:
        config = read_config(arguments.path)
        ceilings = Ceilings(trials=config.run.raise_ceilings)
        line = make_line(config, ceilings)
        _start(lambda: _listen(hub, line, inputs, loaded), "listen")
        began = time.monotonic()
        runner, pool = _load(arguments, config)
        ceilings.learn(memory_kind(arguments.device), arguments.ceilings)
        found = warm_up(runner, config, ceilings) if config.run.warmup else ()
        line.warmed(runner.timings)
        if pool is not None:
            pool.wait_until_loaded()
    except ModelError as error:
        hub.send([LoadFailed(error.message)])
        leave(EXIT_LOAD_FAILED)
    # What loading made stays for good: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
    stages = Stages(
        line,
        runner,
        store,
        inputs=inputs,
        references=References(
            ReferenceReader(fetch_prefixes(arguments.object_store)), max_attempts=config.run.max_attempts
        ),
        send=hub.send,
        bunch_rows=config.batching.max_rows,
        measures_bytes=config.batching.max_bytes is not None,
        preprocess=pool.preprocess if pool else None,
        finite=config.run.finite,
        signature=config.signature,
    )
    loaded.set_result(stages)
    hub.send([*map(MemoryFull, found), Loaded(load_s=time.monotonic() - began)])
    _run(stages)
    leave(EXIT_STOPPED)


def _load(arguments: EngineArguments, config: ModelConfig) -> tuple[Runner, PreprocessPool | None]:
    processes = config.run.preprocess_processes
    pool = PreprocessPool(arguments.path, processes) if processes else None
    model = load_model(arguments.path, config, arguments.device)
    run = config.run
    runner = Runner(model, device=arguments.device, dtype=run.dtype, compile=run.compile)
    if pool is not None and not runner.changes_rows:
        raise ModelLoadError(
            f"[run] preprocess_processes is {processes}, and the model does not preprocess: "
            "write preprocess or preprocess_batch, or leave the setting out"
        )
    return runner, pool


def make_line(config: ModelConfig, ceilings: Ceilings | None = None) -> Line:
    """An empty line with a model's limits."""
    batcher: Batcher[JobRun] = Batcher(config.batching, ceilings=ceilings)
    # Two of its largest batches, as they are found in rows.
    ahead_bytes = max(AHEAD_BYTES, 2 * (config.batching.max_bytes or 0))
    return Line(batcher, bunch_rows=config.batching.max_rows, ahead_bytes=ahead_bytes)


def _run(stages: Stages) -> None:
    _start(stages.preprocess_jobs, "preprocess")
    _start(stages.gather_batches, "gather")
    _start(stages.finish_batches, "finish")
    _start(stages.write_chunks, "write")
    stages.run_batches()


def _listen(hub: HubPipe, line: Line, inputs: InputsAhead, loaded: Future[Stages]) -> None:
    while True:
        said = hub.receive()
        arrived = [message for message in said if isinstance(message, Run)]
        for run in arrived:
            inputs.expect(run.job)
        # All at once, so that they are preprocessed together; what is dropped among them arrived before.
        if loaded.done():
            loaded.result().accept(arrived)
        else:
            line.accept(arrived)
        for message in said:
            if isinstance(message, Probe):
                line.accept_probe(message)
            elif isinstance(message, Drop):
                line.drop(message.claim)
                inputs.forget(message.claim)
            elif isinstance(message, Stop):
                line.stop()
                if not loaded.done():
                    leave(EXIT_STOPPED)


def _bind_to_hub() -> None:
    bind_to_parent()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # A stage that dies would leave the others waiting for it.
    sys.excepthook = _crash
    threading.excepthook = lambda failure: _crash(failure.exc_type, failure.exc_value, failure.exc_traceback)


def _log_to_stderr() -> None:
    log_to(logging.StreamHandler(), logging.WARNING)
    logging.getLogger("shunter").setLevel(logging.INFO)


def _start(target: Callable[[], None], name: str) -> None:
    threading.Thread(target=target, name=name, daemon=True).start()


def _crash(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> NoReturn:
    traceback.print_exception(kind, error, trace)
    leave(EXIT_CRASHED)


if __name__ == "__main__":
    main(EngineArguments.parse(sys.argv[1]))
