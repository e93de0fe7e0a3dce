"""The shapes of the HTTP API's bodies, checked for requests and documented for answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from shunter.producers.submission import MAX_DEADLINE_S, MAX_VERSION
from shunter.storage.job import JobState
from shunter.storage.settings import MAX_JOB_ROWS

PriorityName = Literal["interactive", "standard", "bulk"]

Rows = Annotated[
    Any,
    WithJsonSchema(
        {
            "type": "array",
            "items": {},
            "minItems": 1,
            "maxItems": MAX_JOB_ROWS,
            "description": 'One JSON value per row; bytes are {"$bytes": "<base64>"}.',
        }
    ),
]
"""Whether these are rows is for the submission to check: it knows the remedy."""


class JobRequest(BaseModel):
    """Rows to run through a model, as one job."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str = Field(min_length=1, max_length=255, description="The name of a registered model.")
    inputs: Rows
    version: int | None = Field(None, ge=1, le=MAX_VERSION, description="The highest one if left out.")
    priority: PriorityName = "standard"
    deadline_s: float | None = Field(
        None, gt=0, le=MAX_DEADLINE_S, description="Seconds from now by which it must have finished."
    )
    metadata: dict[str, Any] | None = Field(None, description="Kept with the job, up to 16 KiB.")


class RowCountsDocument(BaseModel):
    """How many rows there are, and how many have ended either way."""

    total: int
    succeeded: int
    failed: int


class WaitingDocument(BaseModel):
    """What a queued job waits for."""

    code: str
    message: str


class ErrorDocument(BaseModel):
    """Why a job failed."""

    model_config = ConfigDict(extra="allow")

    code: str
    message: str


class JobDocument(BaseModel):
    """Where a job or an item stands."""

    id: str
    model: str
    version: int
    state: JobState
    priority: PriorityName
    rows: RowCountsDocument
    attempts: int
    waiting: WaitingDocument | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: ErrorDocument | None
    metadata: dict[str, Any] | None
    links: dict[str, str]


class EventDocument(BaseModel):
    """Something that happened to a job.

    `what` is submitted, published_again, due, claimed, run_failed, forward or settled.
    """

    at: datetime
    what: str
    detail: str


class TimelineDocument(BaseModel):
    """What happened to a job, in the order of time."""

    id: str
    events: list[EventDocument]


class JobsDocument(BaseModel):
    """Some jobs, the newest first; `next_cursor` is null on the last page."""

    jobs: list[JobDocument]
    next_cursor: str | None


class RowErrorDocument(BaseModel):
    """A row without an output."""

    index: int
    code: str
    message: str


class ResultsDocument(BaseModel):
    """The outputs in row order; a null is a failure only if `errors` names its index."""

    id: str
    outputs: list[Any]
    errors: list[RowErrorDocument]


class ScoringBody(BaseModel):
    """A dataset to run through a model; places are those of the API's host and of the workers."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str = Field(min_length=1, max_length=255, description="The name of a registered model.")
    input: str = Field(min_length=1, description="A file, directory, glob or S3 prefix.")
    output: str = Field(min_length=1, description="A directory or S3 prefix that does not exist yet.")
    version: int | None = Field(None, ge=1, le=MAX_VERSION, description="The highest one if left out.")
    columns: list[str] = Field([], description="What a row is made of: one column bare, several as a dict.")
    key: str | None = Field(None, description="The column that names the rows.")
    keep: list[str] = Field([], description="Columns to carry to the output.")
    fetch: list[str] = Field([], description="Columns of URLs whose objects are the values.")
    format: Literal["parquet", "jsonl", "csv"] | None = None
    input_format: Literal["parquet", "jsonl", "csv", "files"] | None = None
    max_errors: str | None = Field(None, description="Stop beyond so many failed rows: 100, or 2.5%.")
    keep_failed: bool = False
    priority: PriorityName = "bulk"
    chunk_rows: int | None = Field(None, ge=1, le=MAX_VERSION)
    check_keys: bool = Field(False, description="Refuse an input in which two rows have one key.")
    force: bool = Field(False, description="Score anew, and replace what is at the output.")
    compare_to: str | None = Field(None, description="The scoring to compare columns with; else the last.")


class RetryRequest(BaseModel):
    """How to run the failed rows of a scoring again."""

    model_config = ConfigDict(extra="forbid", strict=True)

    output: str | None = Field(None, min_length=1, description="Below the earlier output if left out.")
    version: int | None = Field(None, ge=1, le=MAX_VERSION, description="The highest one if left out.")


class ScoringRowsDocument(BaseModel):
    """How many rows there are (null until all files are planned), and how many have ended either way."""

    total: int | None
    succeeded: int
    failed: int


class ScoringDocument(BaseModel):
    """Where a scoring stands; `rows_per_s` is since it began."""

    id: str
    model: str
    version: int
    state: Literal["running", "complete", "failed", "cancelled"]
    input: str
    output: str
    rows: ScoringRowsDocument
    chunks: int
    rows_per_s: float
    eta_s: float | None
    error: ErrorDocument | None
    created_at: datetime
    finished_at: datetime | None
    drifted: bool | None
    links: dict[str, str]


class ReportDocument(BaseModel):
    """What a scoring was like; `docs/reports.md` says what each figure means."""

    version: int
    scoring: dict[str, Any]
    seconds: float
    rows: dict[str, int]
    failures: list[dict[str, Any]]
    throughput: dict[str, Any]
    batches: dict[str, Any]
    device: dict[str, float | None]
    drift: dict[str, Any]
    columns: list[dict[str, Any]]
    accuracy: dict[str, float]


class EstimateDocument(BaseModel):
    """What a scoring would cost: rows, the workers that serve the model, and the measured rate of one."""

    model: str
    version: int
    files: int
    rows: int
    exact: bool
    chunk_rows: int
    workers: int
    rows_per_s: float


class ScoringsDocument(BaseModel):
    """Some scorings, the newest first; `next_cursor` is null on the last page."""

    scorings: list[ScoringDocument]
    next_cursor: str | None


class ModelVersionDocument(BaseModel):
    """One registered version of a model."""

    version: int
    digest: str
    batching: dict[str, Any]
    signature: dict[str, Any]


class ModelDocument(BaseModel):
    """A model; `version` is what a job gets that names none."""

    name: str
    version: int
    versions: list[ModelVersionDocument]


class ModelsDocument(BaseModel):
    """Every registered model."""

    models: list[ModelDocument]


class AtWorkDocument(BaseModel):
    """What an engine has in its hands: rows of so many jobs, in which stage, for how many seconds."""

    stage: str
    rows: int
    jobs: int
    for_s: float


class ServingDocument(BaseModel):
    """A model version that a worker serves.

    `state` is idle, waiting_for_memory, loading, ready, unloading or failed; `loads` how often its engine
    was started, `memory_bytes` the most that was seen to take, `at_work` what it has in its hands now.
    """

    model: str
    version: int
    state: str
    error: str | None
    loads: int
    memory_bytes: int | None
    at_work: AtWorkDocument | None


class WorkerDocument(BaseModel):
    """A worker that has not ended; `live` says whether it still beats.

    `memory_bytes` is what its engines take, of `memory_budget_bytes` if there is a limit; `software` the
    version of Shunter that it runs; `clock_ahead_s` how far its clock is before that of Postgres.
    """

    id: str
    name: str
    host: str
    pid: int
    pool: str
    device: str
    memory_bytes: int | None
    memory_budget_bytes: int | None
    state: str
    software: str | None
    clock_ahead_s: float | None
    live: bool
    silent_s: float
    started_at: datetime
    serves: list[ServingDocument]
    stats: dict[str, Any]


class WorkersDocument(BaseModel):
    """The workers of the fleet."""

    workers: list[WorkerDocument]


class BatchDocument(BaseModel):
    """One batch; times are in seconds, `wait_s` is its oldest row's in line."""

    model_config = ConfigDict(extra="allow")

    age_s: float
    rows: int
    jobs: int
    reason: str
    full_rows: int
    wait_s: float
    preprocess_s: float
    forward_s: float
    postprocess_s: float


class VersionBatchesDocument(BaseModel):
    """A model version's batches over all live workers; null where nothing tells.

    `fill` is rows over what full batches would have held, `padding` the share of the computed tokens that
    were padding, `queue_s` the mean wait of a batch's oldest row, `busy` the share of the last minute that
    the model ran.
    """

    version: int
    workers: int
    batches: int
    rows: int
    forwards: int
    mean_rows: float | None
    fill: float | None
    padding: float | None
    queue_s: float | None
    rows_per_s: float
    busy: float | None
    seconds: dict[str, float]
    sizes: dict[str, int]
    reasons: dict[str, int]
    recent: list[BatchDocument]
    sizing: list[dict[str, Any]]


class BatchesDocument(BaseModel):
    """The batches of a model's versions."""

    model: str
    versions: list[VersionBatchesDocument]


class HealthDocument(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class ReadyDocument(BaseModel):
    """Whether the services answer; without Redis jobs are still accepted, and run later."""

    status: Literal["ok"]
    postgres: str
    redis: str


class Problem(BaseModel):
    """An error, after RFC 9457; `code` is stable."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    errors: list[dict[str, Any]] | None = None
