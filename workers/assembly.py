"""One claimed job inside an engine: its rows' results come together here and become its outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shunter.storage import failpoints
from shunter.storage.errors import (
    InvalidInput,
    ObjectNotFound,
    ObjectStoreUnavailable,
    SettingsError,
    TooLarge,
)
from shunter.storage.job import Claim, Move
from shunter.storage.object_store import ObjectStore
from shunter.storage.outcome import BatchNote, Outcome, RowFailure, failed
from shunter.storage.payload import encode_rows
from shunter.storage.payload_alike import encode_alike
from shunter.storage.results import INLINE_LIMIT_BYTES, Blob, output_key, store_block
from shunter.storage.settings import MAX_OUTPUT_BYTES
from shunter.workers.batch import Ticket
from shunter.workers.chunk_tally import ChunkTally
from shunter.workers.isolation import Failure, Retry
from shunter.workers.messages import Run

if TYPE_CHECKING:
    import pyarrow as pa

    from shunter.storage.scoring.chunk import Chunk
    from shunter.storage.scoring.sketches import Sketches

MOST_BATCHES = 16

MAX_MESSAGES_CHARS, LEAST_MESSAGE_CHARS = 2**20, 80
"""The messages of one job's failed rows are cut so that they take no more together, but keep so much."""

STORE_RETRY_S = 5.0
"""How long a job waits when the object store cannot be reached."""


@dataclass(frozen=True, slots=True)
class Carried:
    """What the rows of a chunk take along to its output: some columns, and their numbers in their file.

    `inputs` sums up the columns that they are made of, and `tally` the batches that they go through.
    """

    chunk: Chunk
    columns: pa.Table
    numbers: Sequence[int]
    inputs: Sketches
    tally: ChunkTally = field(default_factory=ChunkTally)


class JobRun(Ticket):
    """A job in hand, which has just arrived. Times are moments of the engine's clock.

    `withheld` are the rows that wait for a probe, by index; None until they are decoded. `began_at` is the
    moment of its first forward. No dataclass: that would set for every job what is nearly always the same.
    """

    taken: bool = False
    ended: bool = False
    began_at: float | None = None
    batches: tuple[BatchNote, ...] = ()
    preprocess_row_s: float = 0.0
    carried: Carried | None = None
    refers: bool = False
    """Whether its rows may refer to objects, which are to be fetched."""

    def __init__(self, message: Run, *, now: float) -> None:
        self.job, self.guilty, withheld = message
        job = self.job
        self.claim = Claim(job.id, job.epoch)
        self.priority = job.priority
        self.deadline = None if job.deadline_in_s is None else now + job.deadline_in_s
        self.withheld: dict[int, Any] = {index: None for span in withheld for index in range(*span)}
        self.results: list[Any] = [None] * job.rows
        self.remaining = job.rows

    @property
    def fetch_from(self) -> tuple[str, ...]:
        """Prefixes that whoever asked has named, and that no setting need allow."""
        return () if self.carried is None else self.carried.chunk.spec.fetch_from

    def ran_in(self, batch: BatchNote) -> None:
        """Some of its rows were in this batch; only the first ones are noted."""
        if len(self.batches) < MOST_BATCHES:
            self.batches += (batch,)

    def expired(self, now: float, *, least_s: float = 0.0) -> bool:
        """Whether none of its rows has reached the model, and a batch of that many seconds were too late."""
        return self.deadline is not None and self.began_at is None and now + least_s >= self.deadline


Decoded = tuple[JobRun, int, Any]
"""A row without a place in line: its job, its index, and its value or result."""


def assemble_all(runs: Sequence[JobRun], store: ObjectStore, *, now: float) -> list[Outcome]:
    """What `assemble` makes of each, sooner where all have one output and these are alike."""
    blocks = _encode_alike(runs)
    if blocks is None:
        return [assemble(run, store, now=now) for run in runs]
    for _ in runs:
        failpoints.hit("engine.stored")
    return [
        succeeded(run, Blob(inline=block, key=None), (), now=now)
        for run, block in zip(runs, blocks, strict=True)
    ]


def assemble(run: JobRun, store: ObjectStore, *, now: float, most_bytes: int = MAX_OUTPUT_BYTES) -> Outcome:
    """The outcome of a job whose rows all have their results; its outputs are stored by then."""
    retry = next((result for result in run.results if isinstance(result, Retry)), None)
    if retry is not None:
        return asked_again(run, retry, now=now)
    try:
        block, failures = _encode(run.results)
        if len(block) > most_bytes:
            raise TooLarge(f"they take {len(block)} bytes, and one job's may take {most_bytes}")
        if len(failures) == len(run.results):
            return all_failed(run, failures, now=now)
        output = store_block(store, block, key=lambda: output_key(*run.claim))
        failpoints.hit("engine.stored")
    except (ObjectNotFound, ObjectStoreUnavailable, SettingsError) as error:
        return retried(run, error.code, error.message, after_s=STORE_RETRY_S, now=now)
    except InvalidInput as error:
        return refused(run, error.code, f"the outputs cannot be stored: {error.message}")
    return succeeded(run, output, failures, now=now)


def succeeded(run: JobRun, output: Blob, failures: tuple[RowFailure, ...], *, now: float) -> Outcome:
    """The outcome of a job that has outputs, for some of its rows at least."""
    return Outcome(
        id=run.claim.id,
        epoch=run.claim.epoch,
        move=Move.SUCCEED,
        output=output,
        rows_succeeded=len(run.results) - len(failures),
        rows_failed=len(failures),
        failures=failures,
        forward_age_s=_age(run, now),
        batches=run.batches,
    )


def asked_again(run: JobRun, retry: Retry, *, now: float) -> Outcome:
    """The outcome of a run that model code wants to be tried again."""
    return retried(run, "transient", retry.message, after_s=retry.after_s, now=now, counts_attempt=True)


def refused(run: JobRun, code: str, message: str) -> Outcome:
    """The outcome of a job that fails as a whole."""
    return failed(run.claim.id, run.claim.epoch, code=code, message=message, rows=run.job.rows)


def expired(run: JobRun) -> Outcome:
    """The outcome of a job whose deadline passed, or could not be kept any more, before its first forward."""
    error = {"code": "expired", "message": "the job could not reach the model in time for its deadline"}
    return Outcome(id=run.claim.id, epoch=run.claim.epoch, move=Move.EXPIRE, error=error)


def retried(
    run: JobRun, code: str, message: str, *, after_s: float, now: float, counts_attempt: bool = False
) -> Outcome:
    """The outcome of a run that may succeed later."""
    return Outcome(
        id=run.claim.id,
        epoch=run.claim.epoch,
        move=Move.RETRY,
        error={"code": code, "message": message},
        forward_age_s=_age(run, now),
        retry_in_s=after_s,
        counts_attempt=counts_attempt,
    )


def all_failed(run: JobRun, failures: tuple[RowFailure, ...], *, now: float) -> Outcome:
    """The outcome of a job that has no row with an output."""
    first = failures[0]
    message = f"none of {len(failures)} rows succeeded; row {first.index}: {first.code}: {first.message}"
    return Outcome(
        id=run.claim.id,
        epoch=run.claim.epoch,
        move=Move.FAIL,
        rows_failed=len(failures),
        failures=failures,
        error={"code": "all_rows_failed", "message": message},
        forward_age_s=_age(run, now),
        batches=run.batches,
    )


def _encode_alike(runs: Sequence[JobRun]) -> list[bytes] | None:
    if len(runs) < 2 or any(len(run.results) != 1 for run in runs):
        return None
    try:
        blocks = encode_alike([run.results[0] for run in runs])
    except InvalidInput:
        return None
    return None if blocks is None or len(blocks[0]) > INLINE_LIMIT_BYTES else blocks


def _encode(results: list[Any]) -> tuple[bytes, tuple[RowFailure, ...]]:
    """The output block, None for failed rows, and the failures; an output that does not travel is one."""
    try:
        return _encode_settled(results)
    except InvalidInput:
        return _encode_settled([_encodable(result) for result in results])


def _encode_settled(results: list[Any]) -> tuple[bytes, tuple[RowFailure, ...]]:
    failures = _bounded([(index, r) for index, r in enumerate(results) if isinstance(r, Failure)])
    outputs = [None if isinstance(result, Failure) else result for result in results] if failures else results
    return encode_rows(outputs), failures


def _bounded(failures: list[tuple[int, Failure]]) -> tuple[RowFailure, ...]:
    """So many messages that together they stay small: they are stored in one row, and read in one answer."""
    limit = max(LEAST_MESSAGE_CHARS, MAX_MESSAGES_CHARS // max(1, len(failures)))
    return tuple(RowFailure(index, f.code, f.message[:limit]) for index, f in failures)


def _encodable(result: Any) -> Any:
    if isinstance(result, Failure):
        return result
    try:
        encode_rows([result])
    except InvalidInput as error:
        return Failure("bad_output", error.message)
    return result


def _age(run: JobRun, now: float) -> float | None:
    return None if run.began_at is None else now - run.began_at
