"""A worker without an engine: it takes envelopes, claims jobs, runs a function on each row, and settles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import redis

from shunter.storage.database import Database
from shunter.storage.envelope import Envelope, decode, list_key, queue_name
from shunter.storage.errors import RowError
from shunter.storage.job import ClaimedJob, Move, Priority
from shunter.storage.job_repository import JobRepository
from shunter.storage.model_config import Batching, ModelConfig
from shunter.storage.model_registry import ModelRegistry, ModelVersion
from shunter.storage.object_store import open_object_store
from shunter.storage.outcome import Outcome, RowFailure
from shunter.storage.payload import decode_rows, encode_rows
from shunter.storage.results import Blob, load_block, output_key, store_block
from shunter.storage.settings import Settings
from shunter.storage.worker_registry import NewWorker, Serving, WorkerRegistry

RowFunction = Callable[[Any], Any]

BLOCK_S = 0.1


def echo(row: Any) -> Any:
    """Give the row back, or fail it if it says so."""
    if isinstance(row, dict) and "fail" in row:
        raise RowError(row["fail"], f"the row asked to fail: {row['fail']}")
    return row


def negate(row: Any) -> Any:
    """Minus the row."""
    return -row


FUNCTIONS: Mapping[str, RowFunction] = {"echo": echo, "negate": negate}


def register_models(settings: Settings, *names: str, max_rows: int = 256) -> None:
    """Make version 1 of each model known."""
    database = Database(settings.database_url)
    ModelRegistry(database).register([model_version(name, 1, max_rows=max_rows) for name in names])
    database.close()


def model_version(name: str, version: int, *, max_rows: int = 256) -> ModelVersion:
    """A model version that lies nowhere."""
    return ModelVersion(
        name,
        version,
        Path("/nowhere"),
        ModelConfig(batching=Batching(max_rows=max_rows)),
        f"{name}-{version}",
    )


class FakeWorker:
    """Runs the functions' jobs in a thread, from start to stop; `gate` holds claimed jobs while cleared."""

    def __init__(self, settings: Settings, functions: Mapping[str, RowFunction] = FUNCTIONS) -> None:
        self.incarnation = uuid4()
        self.gate = Event()
        self.gate.set()
        self._functions = functions
        self._database = Database(settings.database_url)
        self._repository = JobRepository(self._database)
        self._store = open_object_store(settings.object_store)
        self._redis = redis.Redis.from_url(settings.redis_url)
        self._stop = Event()
        self._thread = Thread(target=self._run, name="fake-worker")

    def __enter__(self) -> Self:
        WorkerRegistry(self._database).register(
            NewWorker(
                incarnation=self.incarnation,
                name="fake@here",
                host="here",
                pid=1,
                device="cpu",
                serves=tuple(Serving(name, 1, "ready") for name in self._functions),
            )
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self.gate.set()
        self._thread.join()
        self._redis.close()
        self._database.close()

    def _run(self) -> None:
        keys = [list_key(queue_name(name), priority) for priority in Priority for name in self._functions]
        while not self._stop.is_set():
            popped = self._redis.brpop(keys, timeout=BLOCK_S)
            if popped is not None:
                self._work(decode(popped[1]))

    def _work(self, envelope: Envelope) -> None:
        served = [(name, 1) for name in self._functions]
        hints = dict.fromkeys(envelope.ids, envelope.id)
        claimed = self._repository.claim(hints, worker=self.incarnation, served=served)
        self.gate.wait()
        self._repository.settle([self._outcome(job) for job in claimed], worker=self.incarnation)

    def _outcome(self, job: ClaimedJob) -> Outcome:
        rows = decode_rows(load_block(self._store, Blob(job.input, job.input_key)))
        outputs, failures = run_rows(self._functions[job.model], rows)
        failed = len(failures) == len(rows)
        key = output_key(job.id, job.epoch)
        return Outcome(
            id=job.id,
            epoch=job.epoch,
            move=Move.FAIL if failed else Move.SUCCEED,
            output=None if failed else store_block(self._store, encode_rows(outputs), key=lambda: key),
            rows_succeeded=len(rows) - len(failures),
            rows_failed=len(failures),
            failures=tuple(failures),
            error={"code": failures[0].code, "message": "no row succeeded"} if failed else None,
            forward_age_s=0.0,
        )


def run_rows(function: RowFunction, rows: list[object]) -> tuple[list[object], list[RowFailure]]:
    """The outputs, None where a row failed, and the failures."""
    outputs: list[object] = []
    failures = []
    for index, row in enumerate(rows):
        try:
            outputs.append(function(row))
        except RowError as error:
            outputs.append(None)
            failures.append(RowFailure(index, error.code, error.message))
    return outputs, failures
