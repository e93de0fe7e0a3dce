"""Takes in what plain Celery producers sent: each message becomes one job, or is refused with a reason."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from shunter.storage.errors import InvalidInput
from shunter.storage.job import ClaimedJob
from shunter.storage.job_adoption import Adoption, JobAdoption
from shunter.storage.job_repository import Served
from shunter.storage.model_registry import ModelRegistry, RegisteredModel
from shunter.storage.object_store import ObjectStore
from shunter.storage.payload import encode_rows
from shunter.storage.results import input_key, store_block
from shunter.storage.settings import MAX_JOB_BYTES, MAX_JOB_ROWS
from shunter.storage.submission import Submission

MODELS_FRESH_S = 2.0
"""So long a look at the registered models serves."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """What became of submissions: jobs that run here, ids known with the same body, and refusals."""

    jobs: tuple[ClaimedJob, ...]
    known: frozenset[UUID]
    refused: dict[UUID, str]


class Adopter:
    """Checks, encodes and inserts submissions in bulk, as running jobs of one worker."""

    def __init__(self, adoption: JobAdoption, registry: ModelRegistry, store: ObjectStore) -> None:
        self._adoption = adoption
        self._registry = registry
        self._store = store
        self._models: Sequence[RegisteredModel] = ()
        self._looked_at = 0.0

    def adopt(self, submissions: Iterable[Submission], *, worker: UUID, served: Served) -> Adopted:
        """Insert what is good; DatabaseUnavailable and ObjectStoreUnavailable leave it to be tried again."""
        refused: dict[UUID, str] = {}
        adoptions = []
        for submission in {submission.id: submission for submission in submissions}.values():
            try:
                adoptions.append(self._prepare(submission, served))
            except InvalidInput as error:
                refused[submission.id] = error.message
        if not adoptions:
            return Adopted((), frozenset(), refused)
        jobs, known = self._adoption.insert(adoptions, worker=worker)
        for id, same in known.items():
            if not same:
                refused[id] = f"job {id} is known with another body: a task id names one piece of work"
        return Adopted(tuple(jobs), frozenset(id for id, same in known.items() if same), refused)

    def _prepare(self, submission: Submission, served: Served) -> Adoption:
        if len(submission.rows) > MAX_JOB_ROWS:
            raise InvalidInput(f"{len(submission.rows)} rows are more than one job holds ({MAX_JOB_ROWS})")
        model = self._model(submission.model, submission.version)
        model.config.signature.check_rows(submission.rows)
        block = encode_rows(submission.rows)
        if len(block) > MAX_JOB_BYTES:
            raise InvalidInput(f"the rows take {len(block)} bytes, more than one job holds ({MAX_JOB_BYTES})")
        return Adoption(
            submission=submission,
            version=model.version,
            rows=len(submission.rows),
            # The sender chose the id: another body under it must not overwrite the first one's object.
            blob=store_block(
                self._store, block, key=f"{input_key(submission.id)}-{sha256(block).hexdigest()[:16]}"
            ),
            served=(model.name, model.version) in served,
        )

    def _model(self, name: str, version: int | None) -> RegisteredModel:
        now = time.monotonic()
        if now - self._looked_at > MODELS_FRESH_S:
            self._models, self._looked_at = self._registry.list(), now
        found = [model for model in self._models if model.name == name and version in (None, model.version)]
        # One that is not among them may be new, and the registry's refusal says what there is.
        return found[-1] if found else self._registry.get(name, version)
