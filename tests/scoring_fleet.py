"""A scoring's duties and engines without processes: each step is taken when a test says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
import pyarrow.parquet as pq

from shunter.producers.scoring.request import ScoringStatus
from shunter.producers.scoring.scorer import Scorer
from shunter.storage.database import Database
from shunter.storage.errors import Corrupt, InvalidInput, NotFound
from shunter.storage.job import ClaimedJob, JobState, Move
from shunter.storage.job_repair import JobRepair
from shunter.storage.job_repository import JobRepository
from shunter.storage.model_config import ModelConfig
from shunter.storage.model_registry import ModelRegistry, ModelVersion
from shunter.storage.object_store import open_object_store
from shunter.storage.outcome import Outcome
from shunter.storage.scoring.chunk import is_chunk
from shunter.storage.scoring.request import ScoringRequest
from shunter.storage.worker_registry import WorkerRegistry
from shunter.workers.assembly import JobRun, refused
from shunter.workers.chunks import Chunks
from shunter.workers.isolation import Verdict, judge
from shunter.workers.lists import Lists
from shunter.workers.messages import Run
from shunter.workers.report.process import build
from shunter.workers.scoring_finisher import ScoringFinisher
from shunter.workers.scoring_planner import ScoringPlanner
from shunter.workers.scoring_reporter import Build, ScoringReporter

Model = Callable[[Any], Any]
MODEL = "double"


def double(row: Any) -> Any:
    return row * 2


class ScoringFleet:
    """One model's fleet; `directory` is where its datasets lie."""

    def __init__(self, database: Database, lists: Lists, directory: Path, config: ModelConfig) -> None:
        self.database = database
        self.directory = directory
        self.jobs = JobRepository(database)
        self.registry = ModelRegistry(database)
        self.scorer = Scorer(
            database,
            self.registry,
            WorkerRegistry(database),
            open_object_store((directory / "objects").as_uri()),
        )
        self.planner = ScoringPlanner(JobRepair(database), lists)
        self.finisher = ScoringFinisher(JobRepair(database))
        self.store = open_object_store((directory / "objects").as_uri())
        self.build: Build = build
        self.reporter = self.new_reporter(build)
        self.worker = uuid4()
        self.config = config
        self.publish(1)

    def new_reporter(self, build: Build) -> ScoringReporter:
        """One that builds reports so; a device costs 3 for an hour."""
        return ScoringReporter(JobRepair(self.database), self.store, price=3.0, build=build)

    def publish(self, version: int) -> None:
        """Register a version of the model."""
        self.registry.register(
            [ModelVersion(MODEL, version, self.directory, self.config, f"digest {version}")]
        )

    def begin(self, input: str | Path, output: str = "out", **options: Any) -> ScoringStatus:
        """Ask for a scoring of files below the directory."""
        input = input if "://" in str(input) else self.directory / input
        output = output if "://" in output else str(self.directory / output)
        places = {"input": str(input), "output": output}
        defaults = {"chunk_rows": 4}
        return self.scorer.create(ScoringRequest(model=MODEL, **{**defaults, **places, **options}))

    def plan(self) -> int:
        """One round of the planner."""
        return self.planner.run_once()

    def claim(self, limit: int = 1000) -> list[ClaimedJob]:
        """Queued chunks, in the hands of this fleet's only worker."""
        ids = [job.id for job in self.jobs.find(state=JobState.QUEUED, limit=1000)]
        versions = [(MODEL, model.version) for model in self.registry.list()]
        claimed = self.jobs.claim(
            {id: uuid4() for id in sorted(ids)[:limit]}, worker=self.worker, served=versions
        )
        return sorted(claimed, key=lambda job: job.id)

    def run(self, model: Model = double, *, limit: int = 1000) -> int:
        """Run queued chunks as an engine would, and settle them; returns how many there were."""
        claimed = self.claim(limit)
        self.jobs.settle([self.outcome(job, model) for job in claimed], worker=self.worker)
        return len(claimed)

    def outcome(self, job: ClaimedJob, model: Model = double) -> Outcome:
        """What an engine makes of a chunk; its files are stored by then."""
        return _outcome(Chunks(self.config.signature), job, model)

    def give_back(self, job: ClaimedJob) -> None:
        """End a claim, as when the worker drains: the chunk is run again under a higher epoch."""
        returned = Outcome(id=job.id, epoch=job.epoch, move=Move.RETURN)
        self.jobs.settle([returned], worker=self.worker)

    def finish(self) -> int:
        """One round of the planner, which takes the counts over, and of the finisher."""
        self.plan()
        return self.finisher.run_once()

    def report(self) -> int:
        """One round of the reporter."""
        return self.reporter.run_once()

    def score(
        self, input: str | Path, output: str = "out", *, model: Model = double, **options: Any
    ) -> ScoringStatus:
        """A scoring from its beginning to its end."""
        return self.end(self.begin(input, output, **options), model=model)

    def end(self, begun: ScoringStatus, *, model: Model = double) -> ScoringStatus:
        """The rest of a scoring."""
        id = UUID(begun.id)
        for _ in range(1000):
            self.plan()
            ran = self.run(model)
            self.finish()
            if (status := self.scorer.get(id)).done:
                return status
            assert ran, "nothing is left to run, and the scoring has not ended"
        raise AssertionError("the scoring never ended")

    def rows(self, output: str = "out") -> list[dict[str, Any]]:
        """The rows of a dataset in Parquet, in the order of its files."""
        files = sorted((self.directory / output).glob("part-*.parquet"))
        return [row for file in files for row in pq.read_table(file).to_pylist()]

    def errors(self, output: str = "out") -> list[dict[str, Any]]:
        """The lines of its errors files."""
        files = sorted((self.directory / output / "_errors").glob("*.jsonl"))
        return [orjson.loads(line) for file in files for line in file.read_bytes().splitlines()]

    def manifest(self, output: str = "out") -> Any:
        """What it says of itself."""
        return orjson.loads((self.directory / output / "_shunter.json").read_bytes())


def _outcome(chunks: Chunks, job: ClaimedJob, model: Model) -> Outcome:
    assert is_chunk(job.input)
    run = JobRun(Run(job), now=0.0)
    try:
        values = chunks.open(run)
    except (Corrupt, NotFound, InvalidInput) as error:
        return refused(run, error.code, error.message)
    run.results = [value if isinstance(value, Verdict) else _run(model, value) for value in values]
    assert run.carried is not None
    return chunks.assemble(run, run.carried, now=0.0)


def _run(model: Model, value: Any) -> Any:
    try:
        return model(value)
    except Exception as error:  # noqa: BLE001 - as an engine judges whatever a model raises
        return judge(error)


@contextmanager
def scoring_fleet(
    database_url: str, redis_url: str, directory: Path, config: ModelConfig | None = None
) -> Iterator[ScoringFleet]:
    """A fleet on real services."""
    database, lists = Database(database_url), Lists(redis_url)
    try:
        yield ScoringFleet(database, lists, directory, config or ModelConfig())
    finally:
        lists.close()
        database.close()


def write_lines(path: Path, lines: Sequence[bytes]) -> Path:
    """A text file."""
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path
