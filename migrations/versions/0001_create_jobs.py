"""Create jobs, idempotency keys, models, workers and quarantine."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    "CREATE TYPE job_state AS ENUM ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired')",
    """
    CREATE TABLE jobs (
        id uuid NOT NULL,
        tenant text NOT NULL DEFAULT 'default',
        model text NOT NULL,
        version integer NOT NULL,
        state job_state NOT NULL DEFAULT 'queued',
        priority smallint NOT NULL,
        rows integer NOT NULL,
        rows_succeeded integer NOT NULL DEFAULT 0,
        rows_failed integer NOT NULL DEFAULT 0,
        attempts smallint NOT NULL DEFAULT 0,
        deaths smallint NOT NULL DEFAULT 0,
        epoch integer NOT NULL DEFAULT 0,
        worker uuid,
        envelope uuid,
        created_at timestamptz NOT NULL DEFAULT now(),
        enqueued_at timestamptz NOT NULL DEFAULT now(),
        not_before timestamptz,
        deadline_at timestamptz,
        started_at timestamptz,
        forward_at timestamptz,
        finished_at timestamptz,
        redriven_from uuid,
        input_key text,
        output_key text,
        error jsonb,
        row_errors jsonb,
        metadata jsonb,
        input bytea,
        output bytea,
        CONSTRAINT jobs_pkey PRIMARY KEY (id)
    ) PARTITION BY RANGE (id)
    """,
    # Blocks are binary already: compressing them costs more than it saves.
    "ALTER TABLE jobs ALTER COLUMN input SET STORAGE EXTERNAL, ALTER COLUMN output SET STORAGE EXTERNAL",
    "CREATE INDEX jobs_queued ON jobs (model, priority, enqueued_at) WHERE state = 'queued'",
    "CREATE INDEX jobs_running ON jobs (worker) WHERE state = 'running'",
    "CREATE INDEX jobs_deadline ON jobs (deadline_at) WHERE state = 'queued' AND deadline_at IS NOT NULL",
    "CREATE INDEX jobs_not_before ON jobs (not_before) WHERE state = 'queued' AND not_before IS NOT NULL",
    # Ids that are not UUIDv7, and those of a week that has no partition yet.
    "CREATE TABLE jobs_default PARTITION OF jobs DEFAULT",
    """
    CREATE TABLE idempotency_keys (
        tenant text NOT NULL,
        key text NOT NULL,
        job_id uuid NOT NULL,
        body_digest bytea NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT idempotency_keys_pkey PRIMARY KEY (tenant, key)
    )
    """,
    """
    CREATE TABLE models (
        name text NOT NULL,
        version integer NOT NULL,
        digest text NOT NULL,
        config jsonb NOT NULL,
        registered_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT models_pkey PRIMARY KEY (name, version)
    )
    """,
    """
    CREATE TABLE workers (
        incarnation uuid NOT NULL,
        name text NOT NULL,
        host text NOT NULL,
        pid integer NOT NULL,
        device text NOT NULL,
        state text NOT NULL DEFAULT 'ready',
        beat bigint NOT NULL DEFAULT 0,
        beat_at timestamptz NOT NULL DEFAULT now(),
        started_at timestamptz NOT NULL DEFAULT now(),
        ended_at timestamptz,
        serves jsonb NOT NULL,
        stats jsonb NOT NULL DEFAULT '{}'::jsonb,
        CONSTRAINT workers_pkey PRIMARY KEY (incarnation)
    )
    """,
    "CREATE INDEX workers_live ON workers (beat_at) WHERE ended_at IS NULL",
    """
    CREATE TABLE quarantine (
        id uuid NOT NULL,
        list_key text NOT NULL,
        raw bytea NOT NULL,
        reason text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT quarantine_pkey PRIMARY KEY (id)
    )
    """,
)


def upgrade() -> None:
    """Create everything; the weekly partitions of jobs are made by the partition duty."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop everything, and all jobs with it."""
    for table in ("quarantine", "workers", "models", "idempotency_keys", "jobs"):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP TYPE job_state")
