"""Takes in what plain Celery producers sent: each message becomes one job, or is refused with a reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from shunter.storage.errors import InvalidInput
from shunter.storage.job import ClaimedJob
from shunter.storage.job_adoption import Adoption, JobAdoption
from shunter.storage.job_repository import Served
from shunter.storage.model_registry import KnownModels, ModelRegistry
from shunter.storage.object_store import ObjectStore
from shunter.storage.payload import encode_rows
from shunter.storage.quarantine import Misfit
from shunter.storage.results import input_key, store_block
from shunter.storage.settings import MAX_JOB_BYTES, MAX_JOB_ROWS
from shunter.storage.submission import Submission


@dataclass(frozen=True, slots=True)
class Refusal:
    """A submission that cannot become a job."""

    submission: Submission
    reason: str

    @property
    def misfit(self) -> Misfit:
        """How it is kept."""
        return Misfit(self.submission.list_key, self.submission.raw, self.reason)


@dataclass(frozen=True, slots=True)
class Adopted:
    """What became of submissions: jobs that run here, ids known with the same body, and refusals."""

    jobs: tuple[ClaimedJob, ...]
    known: frozenset[UUID]
    accepted: tuple[Submission, ...]
    refused: tuple[Refusal, ...]


class Adopter:
    """Checks, encodes and inserts submissions in bulk, as running jobs of one worker."""

    def __init__(self, adoption: JobAdoption, registry: ModelRegistry, store: ObjectStore) -> None:
        self._adoption = adoption
        self._models = KnownModels(registry)
        self._store = store

    def adopt(self, submissions: Iterable[Submission], *, worker: UUID, served: Served) -> Adopted:
        """Insert what is good; DatabaseUnavailable and ObjectStoreUnavailable leave it to be tried again."""
        jobs: list[ClaimedJob] = []
        known: set[UUID] = set()
        accepted: list[Submission] = []
        refused: list[Refusal] = []
        for round_ in rounds(submissions):
            adoptions = []
            for submission in round_:
                try:
                    adoptions.append(self._prepare(submission, served))
                except InvalidInput as error:
                    refused.append(Refusal(submission, error.message))
            for adopted in self._insert(adoptions, worker):
                jobs += adopted.jobs
                known |= adopted.known
                accepted += adopted.accepted
                refused += adopted.refused
        return Adopted(tuple(jobs), frozenset(known), tuple(accepted), tuple(refused))

    def _insert(self, adoptions: Sequence[Adoption], worker: UUID) -> Iterator[Adopted]:
        """All at once, or one by one if Postgres cannot hold one of them."""
        if not adoptions:
            return
        try:
            jobs, known = self._adoption.insert(adoptions, worker=worker)
        except InvalidInput as error:
            if len(adoptions) == 1:
                yield Adopted((), frozenset(), (), (Refusal(adoptions[0].submission, error.message),))
                return
            for adoption in adoptions:
                yield from self._insert([adoption], worker)
            return
        yield _sort(adoptions, jobs, known)

    def _prepare(self, submission: Submission, served: Served) -> Adoption:
        if len(submission.rows) > MAX_JOB_ROWS:
            raise InvalidInput(f"{len(submission.rows)} rows are more than one job holds ({MAX_JOB_ROWS})")
        model = self._models.get(submission.model, submission.version)
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
                self._store,
                block,
                key=lambda: f"{input_key(submission.id)}-{sha256(block).hexdigest()[:16]}",
            ),
            served=(model.name, model.version) in served,
        )


def rounds(submissions: Iterable[Submission]) -> list[list[Submission]]:
    """The submissions in rounds in which no id comes twice: the later ones meet the first one's job."""
    result: list[dict[UUID, Submission]] = []
    for submission in submissions:
        round_ = next((round_ for round_ in result if submission.id not in round_), None)
        if round_ is None:
            result.append(round_ := {})
        round_[submission.id] = submission
    return [list(round_.values()) for round_ in result]


def _sort(adoptions: Sequence[Adoption], jobs: Sequence[ClaimedJob], known: Mapping[UUID, bool]) -> Adopted:
    sent = [adoption.submission for adoption in adoptions]
    return Adopted(
        tuple(jobs),
        frozenset(id for id, same in known.items() if same),
        tuple(submission for submission in sent if known.get(submission.id, True)),
        tuple(
            Refusal(
                submission,
                f"job {submission.id} is known with another body: a task id names one piece of work",
            )
            for submission in sent
            if not known.get(submission.id, True)
        ),
    )
