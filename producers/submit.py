"""The write path: check the rows, store the job, then push its envelope. There is no other."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import orjson

from shunter.producers.rows import as_rows, each_job, packed_rows
from shunter.producers.shared_commits import ANSWERED, SharedCommits, SupportsClose
from shunter.producers.submission import Accepted, Options, check_model_name
from shunter.storage import failpoints
from shunter.storage.envelope import Envelope, pack
from shunter.storage.errors import (
    QueueUnavailable,
    TooLarge,
)
from shunter.storage.ids import new_id, new_ids
from shunter.storage.job import Job, NewJob, Priority
from shunter.storage.job_repository import JobRepository
from shunter.storage.model_registry import KnownModels, ModelRegistry, RegisteredModel
from shunter.storage.object_store import ObjectStore
from shunter.storage.payload import encode_rows
from shunter.storage.payload_alike import encode_alike
from shunter.storage.results import INLINE_LIMIT_BYTES, input_key, store_block
from shunter.storage.settings import MAX_JOB_BYTES, MAX_JOB_ROWS

__all__ = ["Accepted", "Options", "Submitter", "as_rows", "body_digest", "packed_rows"]

log = logging.getLogger(__name__)

FEW_ROWS = 256
"""A job of so many rows is made in well under a millisecond, for which others may wait."""


class Publishes(Protocol):
    """What pushes envelopes."""

    def publish(self, envelopes: Iterable[Envelope]) -> SupportsClose:
        """Send them, or raise QueueUnavailable; what is returned waits for the answer when it is closed."""


class _NeedsObjectStore(Exception):
    """A job's input is too large for its row."""

    def __init__(self, block: bytes) -> None:
        super().__init__(len(block))
        self.block = block


class Submitter:
    """Takes rows in: when a call returns, they are committed in Postgres."""

    def __init__(
        self, *, repository: JobRepository, registry: ModelRegistry, store: ObjectStore, publisher: Publishes
    ) -> None:
        self._models = KnownModels(registry)
        self._repository = repository
        self._store = store
        self._publisher = publisher
        self._commits = SharedCommits(repository, self._publish)

    def submit(self, model: str, rows: object, options: Options | None = None) -> Accepted:
        """Accept one job. Raises InvalidInput and its kin, IdempotencyConflict, or Unavailable."""
        options = options or Options()
        values = as_rows(rows)
        _check_size(values)
        if options.idempotency_key is not None:
            return self._submit_once(model, values, options, options.idempotency_key)
        if len(values) > FEW_ROWS:
            return self._add_all(self._check(model, values, options), [values], options)[0]
        registered = self._model(model, options)
        try:
            job = self._commits.add(lambda: self._small_job(registered, values, options))
        except _NeedsObjectStore as large:
            job = self._stored_job(new_id(), registered, options, rows=len(values), block=large.block)
            self._commits.add_all([job])
        return Accepted(job.id, job.model, job.version, job.rows)

    def submit_many(self, model: str, rows: object, options: Options | None = None) -> list[Accepted]:
        """Accept many rows at once, packed into jobs in their order; all or none is accepted."""
        options = options or Options()
        options.refuse_key("submit_many")
        values = as_rows(rows)
        registered = self._check(model, values, options)
        size = packed_rows(len(values), registered.config.batching.max_rows)
        chunks = [values[start : start + size] for start in range(0, len(values), size)]
        return self._add_all(registered, chunks, options)

    def submit_jobs(self, model: str, jobs: object, options: Options | None = None) -> list[Accepted]:
        """Accept a job for each list of rows, all in one commit or none."""
        options = options or Options()
        options.refuse_key("submit_jobs")
        each = each_job(jobs)
        for rows in each:
            _check_size(rows)
        registered = self._check(model, [row for rows in each for row in rows], options)
        return self._add_all(registered, each, options)

    def redrive(
        self, dead: Job, rows: Sequence[object], *, version: int | None = None, again: bool = False
    ) -> Accepted:
        """Accept these rows of a dead job as a new one; the same one each time, unless `again`."""
        options = Options(
            version=version or dead.version,
            priority=dead.priority.label,
            metadata=dead.metadata,
            tenant=dead.tenant,
        )
        registered = self._check(dead.model, rows, options)
        new = self._stored_job(new_id(), registered, options, rows=len(rows), block=_encode(list(rows)))
        job = new._replace(redriven_from=dead.id)
        if again:
            self._commits.add_all([job])
            return Accepted(job.id, job.model, job.version, job.rows)
        # No caller's key holds a control character. A dead job never changes, so its id says it all.
        key = f"\x1fredrive {dead.id} {job.version}"
        return self._store_once(job, key, hashlib.sha256(key.encode()).digest())

    def _add_all(
        self, model: RegisteredModel, jobs: Sequence[Sequence[object]], options: Options
    ) -> list[Accepted]:
        new = [
            self._stored_job(id, model, options, rows=len(rows), block=block)
            for id, rows, block in zip(new_ids(len(jobs)), jobs, _encode_each(jobs), strict=True)
        ]
        self._commits.add_all(new)
        return [Accepted(job.id, job.model, job.version, job.rows) for job in new]

    def _submit_once(self, model: str, values: Sequence[object], options: Options, key: str) -> Accepted:
        registered = self._check(model, values, options)
        block = _encode(values)
        job = self._stored_job(new_id(), registered, options, rows=len(values), block=block)
        return self._store_once(job, key, body_digest(model, options, block))

    def _store_once(self, job: NewJob, key: str, digest: bytes) -> Accepted:
        id, enqueued_at = self._repository.insert_once(job, key=key, body_digest=digest)
        failpoints.hit("submit.stored")
        if enqueued_at is not None:
            self._publish([job], enqueued_at).close()
        return Accepted(id, job.model, job.version, job.rows)

    def _check(self, model: object, values: Sequence[object], options: Options) -> RegisteredModel:
        registered = self._model(model, options)
        registered.config.signature.check_rows(values)
        return registered

    def _model(self, name: object, options: Options) -> RegisteredModel:
        return self._models.get(check_model_name(name), options.version)

    def _small_job(self, model: RegisteredModel, values: Sequence[object], options: Options) -> NewJob:
        """Runs in the thread of whoever commits, where others wait for it: so it asks no service."""
        model.config.signature.check_rows(values)
        block = _encode(values)
        if len(block) > INLINE_LIMIT_BYTES:
            raise _NeedsObjectStore(block)
        return _new_job(new_id(), model, options, rows=len(values), input=block)

    def _stored_job(
        self, id: UUID, model: RegisteredModel, options: Options, *, rows: int, block: bytes
    ) -> NewJob:
        blob = store_block(self._store, block, key=lambda: input_key(id))
        return _new_job(id, model, options, rows=rows, input=blob.inline, input_key=blob.key)

    def _publish(self, jobs: Sequence[NewJob], enqueued_at: datetime) -> SupportsClose:
        push = ANSWERED
        try:
            failpoints.hit("submit.committed")
            push = self._publisher.publish(pack(jobs, enqueued_at.timestamp()))
            failpoints.hit("submit.pushed")
        except QueueUnavailable as error:
            # The rows are committed: the relay will push what is missing once Redis is back.
            log.debug("%d jobs are stored and will be dispatched later: %s", len(jobs), error)
        return push


def _new_job(
    id: UUID,
    model: RegisteredModel,
    options: Options,
    *,
    rows: int,
    input: bytes | None,
    input_key: str | None = None,
) -> NewJob:
    return NewJob(
        id=id,
        model=model.name,
        version=model.version,
        rows=rows,
        input=input,
        tenant=options.tenant,
        priority=Priority.from_label(options.priority),
        deadline_s=options.deadline_s,
        metadata=None if options.metadata is None else dict(options.metadata),
        input_key=input_key,
    )


def _check_size(rows: Sequence[object]) -> None:
    if len(rows) > MAX_JOB_ROWS:
        raise TooLarge(
            f"{len(rows)} rows are more than one job holds ({MAX_JOB_ROWS}): use map, or score for a dataset",
            field="inputs",
        )


def _encode(rows: Sequence[object]) -> bytes:
    block = encode_rows(rows)
    if len(block) > MAX_JOB_BYTES:
        raise TooLarge(
            f"{len(rows)} rows take {len(block)} bytes, more than one job holds ({MAX_JOB_BYTES}): "
            "use map, or score for a dataset",
            field="inputs",
        )
    return block


def _encode_each(jobs: Sequence[Sequence[object]]) -> list[bytes]:
    """A block for each job; those of one array each are made together, in a fifth of the time."""
    alike = None
    if all(len(rows) == 1 for rows in jobs):
        alike = encode_alike([row for (row,) in jobs])
    return alike or [_encode(rows) for rows in jobs]


def body_digest(model: str, options: Options, block: bytes) -> bytes:
    """What makes two submissions the same: the model, the options and the rows, as they were asked for."""
    metadata = None if options.metadata is None else dict(options.metadata)
    asked = [model, options.version, options.priority, options.deadline_s, metadata]
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS) + block).digest()
