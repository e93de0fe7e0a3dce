"""Create scorings and their chunks."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE scorings (
        id uuid NOT NULL,
        tenant text NOT NULL DEFAULT 'default',
        state text NOT NULL DEFAULT 'running',
        identity bytea NOT NULL,
        fingerprint bytea NOT NULL,
        superseded boolean NOT NULL DEFAULT false,
        output text NOT NULL,
        spec jsonb NOT NULL,
        sources jsonb NOT NULL,
        place jsonb NOT NULL,
        planned boolean NOT NULL DEFAULT false,
        chunks integer NOT NULL DEFAULT 0,
        planned_rows bigint NOT NULL DEFAULT 0,
        total_rows bigint,
        rows_succeeded bigint NOT NULL DEFAULT 0,
        rows_failed bigint NOT NULL DEFAULT 0,
        error jsonb,
        created_at timestamptz NOT NULL DEFAULT now(),
        finished_at timestamptz,
        CONSTRAINT scorings_pkey PRIMARY KEY (id)
    )
    """,
    # One answer to a question, unless it was asked anew by force; and one writer to a place.
    "CREATE UNIQUE INDEX scorings_identity ON scorings (tenant, identity) WHERE NOT superseded",
    "CREATE UNIQUE INDEX scorings_output ON scorings (output) WHERE state = 'running'",
    """
    CREATE TABLE scoring_chunks (
        scoring uuid NOT NULL,
        number integer NOT NULL,
        job uuid NOT NULL,
        span jsonb NOT NULL,
        rows integer NOT NULL,
        state job_state,
        rows_succeeded integer NOT NULL DEFAULT 0,
        rows_failed integer NOT NULL DEFAULT 0,
        part jsonb,
        error jsonb,
        CONSTRAINT scoring_chunks_pkey PRIMARY KEY (scoring, number)
    )
    """,
    "CREATE INDEX scoring_chunks_open ON scoring_chunks (scoring) WHERE state IS NULL",
)


def upgrade() -> None:
    """Create the tables."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop the tables, and all scorings with them; datasets that were written stay."""
    op.execute("DROP TABLE scoring_chunks")
    op.execute("DROP TABLE scorings")
