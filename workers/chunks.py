"""Chunks of scorings in an engine: the rows are read where they lie, and their outputs written as a file."""

from __future__ import annotations

from functools import cache
from typing import Any

from shunter.storage import failpoints
from shunter.storage.errors import (
    DamagedObject,
    InvalidInput,
    NotFound,
    ObjectStoreUnavailable,
    PayloadError,
    SettingsError,
    Unavailable,
)
from shunter.storage.outcome import Outcome
from shunter.storage.results import PROCESS_MARK, Blob
from shunter.storage.scoring.chunk import Part, decode_chunk
from shunter.storage.scoring.sources import store_at
from shunter.storage.signature import Signature
from shunter.workers.assembly import (
    STORE_RETRY_S,
    Carried,
    JobRun,
    all_failed,
    asked_again,
    refused,
    retried,
    succeeded,
)
from shunter.workers.chunk_tally import count_failures
from shunter.workers.isolation import Retry


class Chunks:
    """Opens chunks and makes outcomes of them; `open` is for one thread, and `assemble` for one."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._input: Any = None

    def open(self, run: JobRun) -> list[Any]:
        """The rows of a chunk, Failures where they are bad; notes in `run` what goes along with them.

        Raises DamagedObject, PayloadError, InvalidInput, NotFound, Unavailable.
        """
        assert run.job.input is not None, "a chunk's reference is always inline; this is a bug"
        chunk = decode_chunk(run.job.input)
        try:
            if self._input is None:
                self._input = _files().ChunkInput(self._signature)
            values, carried, run.refers = self._input.read(chunk)
        except (DamagedObject, PayloadError, InvalidInput, NotFound, Unavailable):
            raise
        except OSError as error:
            raise ObjectStoreUnavailable(f"{chunk.source.url} cannot be read now: {error}") from error
        except Exception as error:
            # Several decoders see the bytes: what any of them trips over must not end the engine.
            raise PayloadError(f"{chunk.source.url} cannot be read: {error!r:.500}") from error
        if len(values) != run.job.rows:
            raise PayloadError(
                f"{chunk.source.url}: {len(values)} rows were read, and the job says {run.job.rows}"
            )
        run.carried = carried
        return list(values)

    def assemble(self, run: JobRun, carried: Carried, *, now: float) -> Outcome:
        """The outcome of a chunk whose rows all have their results; its files are stored by then."""
        if Retry in set(map(type, run.results)):
            retry = next(result for result in run.results if isinstance(result, Retry))
            return asked_again(run, retry, now=now)
        try:
            encoded = _files().encode(run.results, carried)
            part = _store(run, carried, encoded)
        except (ObjectStoreUnavailable, SettingsError) as error:
            return retried(run, error.code, error.message, after_s=STORE_RETRY_S, now=now)
        except InvalidInput as error:
            return refused(run, error.code, error.message)
        told, failures = Blob(inline=part.encode(), key=None), encoded.failures
        # The errors file tells of each row; the job's own row keeps the counts.
        if len(failures) == len(run.results):
            return all_failed(run, failures, now=now)._replace(output=told, failures=())
        return succeeded(run, told, failures, now=now)._replace(failures=())


@cache
def _files() -> Any:
    """The module that needs pyarrow: an engine that never sees a chunk does not load it."""
    try:
        from shunter.workers import chunk_files  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise InvalidInput(
            f"this worker cannot read datasets ({error}): install shunter[scoring] where workers run",
            code="scoring_unavailable",
        ) from error
    return chunk_files


def _store(run: JobRun, carried: Carried, encoded: Any) -> Part:
    """Store what this run of the chunk has come to, apart from what any other run of it stores."""
    chunk = carried.chunk
    store, name = store_at(chunk.parts), f"{chunk.number:06}.{run.claim.epoch}-{PROCESS_MARK}"
    rows_key = f"rows-{name}.{chunk.spec.output_format}" if encoded.data else None
    errors_key = f"errors-{name}.jsonl" if encoded.errors else None
    if rows_key is not None:
        store.put(rows_key, encoded.data)
    if errors_key is not None:
        store.put(errors_key, encoded.errors)
    store.put(columns_key := f"columns-{name}", encoded.columns)
    failpoints.hit("engine.stored")
    return Part(
        rows_key=rows_key,
        errors_key=errors_key,
        rows=encoded.rows,
        size=len(encoded.data),
        schema=encoded.schema,
        columns_key=columns_key,
        run=carried.tally.document(),
        failures=count_failures(encoded.failures),
    )
