"""Create the reports of scorings and the reference profiles of models; keep when a chunk has ended."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE scoring_reports (
        scoring uuid NOT NULL,
        state text NOT NULL DEFAULT 'pending',
        drifted boolean,
        document jsonb,
        page_key text,
        columns bytea,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT scoring_reports_pkey PRIMARY KEY (scoring)
    )
    """,
    "CREATE INDEX scoring_reports_pending ON scoring_reports (scoring) WHERE state = 'pending'",
    "ALTER TABLE scoring_reports ALTER COLUMN columns SET STORAGE EXTERNAL",
    """
    CREATE TABLE model_profiles (
        model text NOT NULL,
        version integer NOT NULL,
        source text NOT NULL,
        rows bigint NOT NULL,
        columns bytea NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT model_profiles_pkey PRIMARY KEY (model, version)
    )
    """,
    "ALTER TABLE model_profiles ALTER COLUMN columns SET STORAGE EXTERNAL",
    "ALTER TABLE scoring_chunks ADD COLUMN finished_at timestamptz",
)


def upgrade() -> None:
    """Create the tables."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop the tables, and with them every report and profile."""
    op.execute("ALTER TABLE scoring_chunks DROP COLUMN finished_at")
    op.execute("DROP TABLE model_profiles")
    op.execute("DROP TABLE scoring_reports")
