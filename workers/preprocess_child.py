"""A child of an engine that does nothing but preprocess, for models whose preprocessing is heavy.

    engine -> child   a list of rows, pickled
    child -> engine   once: None, or why the model cannot be loaded; then each list, preprocessed

The pipe is private to the engine and its own child.
"""

from __future__ import annotations

import pickle
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from shunter.storage.errors import ModelError
from shunter.storage.model_registry import read_config
from shunter.workers.isolation import Failure
from shunter.workers.lifeline import EXIT_ORPHANED, bind_to_parent, leave
from shunter.workers.loaders import load_preprocessor
from shunter.workers.runner import Runner

EXIT_LOAD_FAILED = 3


def main(directory: Path, fd: int) -> NoReturn:
    """Preprocess lists of rows until the engine has gone."""
    bind_to_parent()
    engine: Connection[bytes, bytes] = Connection(fd)
    try:
        _serve(engine, directory)
    except (EOFError, OSError):
        leave(EXIT_ORPHANED)


def _serve(engine: Connection[bytes, bytes], directory: Path) -> NoReturn:
    try:
        runner = Runner(load_preprocessor(directory, read_config(directory)))
    except ModelError as error:
        engine.send_bytes(pickle.dumps(error.message))
        leave(EXIT_LOAD_FAILED)
    engine.send_bytes(pickle.dumps(None))
    while True:
        values = runner.preprocess(pickle.loads(engine.recv_bytes()))
        engine.send_bytes(_pack(values))


def _pack(values: list[Any]) -> bytes:
    # Plain pickle: the one of Connection.send would share tensors through files, which costs more.
    try:
        return pickle.dumps(values, pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001 - a model's object may raise anything, and then that row alone fails
        return pickle.dumps([_portable(value) for value in values], pickle.HIGHEST_PROTOCOL)


def _portable(value: Any) -> Any:
    try:
        pickle.dumps(value)
    except Exception as error:  # noqa: BLE001 - as above
        kind = type(value).__name__
        return Failure("bad_preprocess", f"a preprocessed {kind} cannot leave its process: {error}")
    return value


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
