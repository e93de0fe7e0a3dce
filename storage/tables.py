"""The tables, as SQLAlchemy knows them; a test holds them and the migrations together."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Enum,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION, JSONB, TIMESTAMP

from shunter.storage.job import JobState

metadata = MetaData()

_TIME = TIMESTAMP(timezone=True)
_STATE = Enum(*[state.value for state in JobState], name="job_state", metadata=metadata)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("tenant", Text, nullable=False, server_default="default"),
    Column("model", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("state", _STATE, nullable=False, server_default="queued"),
    Column("priority", SmallInteger, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("rows_succeeded", Integer, nullable=False, server_default="0"),
    Column("rows_failed", Integer, nullable=False, server_default="0"),
    Column("attempts", SmallInteger, nullable=False, server_default="0"),
    Column("deaths", SmallInteger, nullable=False, server_default="0"),
    Column("epoch", Integer, nullable=False, server_default="0"),
    Column("worker", Uuid),
    Column("envelope", Uuid),
    Column("created_at", _TIME, nullable=False, server_default=func.now()),
    Column("enqueued_at", _TIME, nullable=False, server_default=func.now()),
    Column("not_before", _TIME),
    Column("deadline_at", _TIME),
    Column("started_at", _TIME),
    Column("forward_at", _TIME),
    Column("finished_at", _TIME),
    Column("redriven_from", Uuid),
    Column("input_key", Text),
    Column("output_key", Text),
    Column("error", JSONB),
    Column("row_errors", JSONB),
    Column("metadata", JSONB),
    Column("input", LargeBinary),
    Column("output", LargeBinary),
    PrimaryKeyConstraint("id", name="jobs_pkey"),
    Index(
        "jobs_queued",
        "model",
        "priority",
        "enqueued_at",
        postgresql_where=text("state = 'queued'"),
    ),
    Index("jobs_running", "worker", postgresql_where=text("state = 'running'")),
    Index(
        "jobs_not_before",
        "not_before",
        postgresql_where=text("state = 'queued' AND not_before IS NOT NULL"),
    ),
    Index(
        "jobs_deadline",
        "deadline_at",
        postgresql_where=text("state = 'queued' AND deadline_at IS NOT NULL"),
    ),
    Index("jobs_failed", "id", postgresql_where=text("state = 'failed'")),
    postgresql_partition_by="RANGE (id)",
)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", Uuid, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("at", _TIME, nullable=False, server_default=func.now()),
    Column("worker", Text),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    PrimaryKeyConstraint("job_id", "epoch", name="attempts_pkey"),
    Index("attempts_at", "at", postgresql_using="brin"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("job_id", Uuid, nullable=False),
    Column("body_digest", LargeBinary, nullable=False),
    Column("created_at", _TIME, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("tenant", "key", name="idempotency_keys_pkey"),
    Index("idempotency_keys_created", "created_at", postgresql_using="brin"),
)

models = Table(
    "models",
    metadata,
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", Text, nullable=False),
    Column("config", JSONB, nullable=False),
    Column("registered_at", _TIME, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("name", "version", name="models_pkey"),
)

workers = Table(
    "workers",
    metadata,
    Column("incarnation", Uuid, nullable=False),
    Column("name", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("pool", Text, nullable=False, server_default="default"),
    Column("device", Text, nullable=False),
    Column("memory_bytes", BigInteger),
    Column("memory_budget_bytes", BigInteger),
    Column("state", Text, nullable=False, server_default="ready"),
    Column("beat", BigInteger, nullable=False, server_default="0"),
    Column("beat_at", _TIME, nullable=False, server_default=func.now()),
    Column("started_at", _TIME, nullable=False, server_default=func.now()),
    Column("ended_at", _TIME),
    Column("serves", JSONB, nullable=False),
    Column("stats", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("software", Text),
    Column("clock_ahead_s", DOUBLE_PRECISION),
    PrimaryKeyConstraint("incarnation", name="workers_pkey"),
    Index("workers_live", "beat_at", postgresql_where=text("ended_at IS NULL")),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("list_key", Text, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", _TIME, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("id", name="quarantine_pkey"),
)

memory_ceilings = Table(
    "memory_ceilings",
    metadata,
    Column("model", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("device", Text, nullable=False),
    Column("bucket", Text, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("recorded_at", _TIME, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("model", "version", "device", "bucket", name="memory_ceilings_pkey"),
)

scorings = Table(
    "scorings",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("tenant", Text, nullable=False, server_default="default"),
    Column("state", Text, nullable=False, server_default="running"),
    Column("identity", LargeBinary, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("superseded", Boolean, nullable=False, server_default=text("false")),
    Column("output", Text, nullable=False),
    Column("spec", JSONB, nullable=False),
    Column("sources", JSONB, nullable=False),
    Column("place", JSONB, nullable=False),
    Column("planned", Boolean, nullable=False, server_default=text("false")),
    Column("chunks", Integer, nullable=False, server_default="0"),
    Column("planned_rows", BigInteger, nullable=False, server_default="0"),
    Column("total_rows", BigInteger),
    Column("rows_succeeded", BigInteger, nullable=False, server_default="0"),
    Column("rows_failed", BigInteger, nullable=False, server_default="0"),
    Column("error", JSONB),
    Column("created_at", _TIME, nullable=False, server_default=func.now()),
    Column("finished_at", _TIME),
    Column("schedule_name", Text),
    Column("window_start", _TIME),
    PrimaryKeyConstraint("id", name="scorings_pkey"),
    Index("scorings_identity", "tenant", "identity", unique=True, postgresql_where=text("NOT superseded")),
    Index("scorings_output", "output", unique=True, postgresql_where=text("state = 'running'")),
    Index(
        "scorings_schedule",
        "schedule_name",
        "window_start",
        postgresql_where=text("schedule_name IS NOT NULL"),
    ),
)

scoring_chunks = Table(
    "scoring_chunks",
    metadata,
    Column("scoring", Uuid, nullable=False),
    Column("number", Integer, nullable=False),
    Column("job", Uuid, nullable=False),
    Column("span", JSONB, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("state", _STATE),
    Column("rows_succeeded", Integer, nullable=False, server_default="0"),
    Column("rows_failed", Integer, nullable=False, server_default="0"),
    Column("part", JSONB),
    Column("error", JSONB),
    Column("finished_at", _TIME),
    PrimaryKeyConstraint("scoring", "number", name="scoring_chunks_pkey"),
    Index("scoring_chunks_open", "scoring", postgresql_where=text("state IS NULL")),
)

schedules = Table(
    "schedules",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("tenant", Text, nullable=False, server_default="default"),
    Column("name", Text, nullable=False),
    Column("definition", JSONB, nullable=False),
    Column("decided_until", _TIME, nullable=False),
    Column("paused", Boolean, nullable=False, server_default=text("false")),
    Column("backfill_paused", Boolean, nullable=False, server_default=text("false")),
    Column("backfill_at_once", Integer, nullable=False, server_default="1"),
    Column("watermark", JSONB),
    Column("created_at", _TIME, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("id", name="schedules_pkey"),
    Index("schedules_name", "tenant", "name", unique=True),
)

schedule_windows = Table(
    "schedule_windows",
    metadata,
    Column("schedule", Uuid, nullable=False),
    Column("start", _TIME, nullable=False),
    Column("cause", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("scoring", Uuid),
    Column("tried_at", _TIME),
    Column("not_before", _TIME),
    Column("error", JSONB),
    Column("warning", Text),
    PrimaryKeyConstraint("schedule", "start", name="schedule_windows_pkey"),
    Index("schedule_windows_pending", "schedule", "start", postgresql_where=text("state = 'pending'")),
    Index("schedule_windows_scoring", "scoring", unique=True),
)

schedule_files = Table(
    "schedule_files",
    metadata,
    Column("schedule", Uuid, nullable=False),
    Column("url", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("scoring", Uuid, nullable=False),
    PrimaryKeyConstraint("schedule", "url", name="schedule_files_pkey"),
    Index("schedule_files_scoring", "scoring"),
)

scoring_reports = Table(
    "scoring_reports",
    metadata,
    Column("scoring", Uuid, nullable=False),
    Column("state", Text, nullable=False, server_default="pending"),
    Column("drifted", Boolean),
    Column("document", JSONB),
    Column("page_key", Text),
    Column("columns", LargeBinary),
    Column("created_at", _TIME, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("scoring", name="scoring_reports_pkey"),
    Index("scoring_reports_pending", "scoring", postgresql_where=text("state = 'pending'")),
)

model_profiles = Table(
    "model_profiles",
    metadata,
    Column("model", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("source", Text, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("columns", LargeBinary, nullable=False),
    Column("created_at", _TIME, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("model", "version", name="model_profiles_pkey"),
)
