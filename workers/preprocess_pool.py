"""An engine's child processes for preprocessing: rows go out in chunks, and come back in order."""

from __future__ import annotations

import os
import pickle
import queue
import socket
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from shunter.storage.errors import ModelLoadError

CHUNKS_PER_CHILD = 2
"""Rows differ in what they cost: with a second chunk, a child that is done early takes more."""


class ChildDied(Exception):
    """A preprocessing child has gone, and with it whatever it had in hand."""


class PreprocessPool:
    """`processes` children, each with the model of a version directory; made, they load it meanwhile.

    They get a parent-death signal from the thread that makes the pool, which must live as long.
    """

    def __init__(self, directory: Path, processes: int) -> None:
        self._children = [_Child(directory) for _ in range(processes)]
        self._idle: queue.SimpleQueue[_Child] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="preprocess-child")

    def wait_until_loaded(self) -> None:
        """Wait for the children's models; raises ModelLoadError."""
        for child in self._children:
            child.wait_until_loaded()
            self._idle.put(child)

    def preprocess(self, rows: list[Any]) -> list[Any]:
        """Every row as `forward` takes it, or why not; raises ChildDied."""
        size = -(-len(rows) // (CHUNKS_PER_CHILD * len(self._children))) or 1
        chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
        return [value for part in self._threads.map(self._preprocess, chunks) for value in part]

    def close(self) -> None:
        """End the children."""
        self._threads.shutdown()
        for child in self._children:
            child.close()

    def _preprocess(self, rows: list[Any]) -> list[Any]:
        # As many threads as children, so one is idle.
        child = self._idle.get()
        try:
            return child.preprocess(rows)
        finally:
            self._idle.put(child)


class _Child:
    def __init__(self, directory: Path) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", "-m", "shunter.workers.preprocess_child"]
            self._process = subprocess.Popen(
                [*command, str(directory), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=_environment(os.environ),
            )
        self._connection: Connection[bytes, bytes] = Connection(ours.detach())

    def wait_until_loaded(self) -> None:
        try:
            problem = pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            code = self._process.wait()
            raise ModelLoadError(
                f"a preprocessing process ended with exit code {code} while loading"
            ) from None
        if problem is not None:
            raise ModelLoadError(f"in a preprocessing process: {problem}")

    def preprocess(self, rows: list[Any]) -> list[Any]:
        try:
            self._connection.send_bytes(pickle.dumps(rows, pickle.HIGHEST_PROTOCOL))
            values: list[Any] = pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError) as error:
            raise ChildDied(f"a preprocessing process ended with exit code {self._process.wait()}") from error
        return values

    def close(self) -> None:
        self._connection.close()
        self._process.kill()
        self._process.wait()


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    """One thread for each child, unless somebody said otherwise, and no GPU memory."""
    return {"OMP_NUM_THREADS": "1", **ours, "CUDA_VISIBLE_DEVICES": ""}
