"""Keep the history of attempts, and find failed jobs and old idempotency keys without reading everything."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE attempts (
        job_id uuid NOT NULL,
        epoch integer NOT NULL,
        at timestamptz NOT NULL DEFAULT now(),
        worker text,
        code text NOT NULL,
        message text NOT NULL,
        CONSTRAINT attempts_pkey PRIMARY KEY (job_id, epoch)
    )
    """,
    "CREATE INDEX jobs_failed ON jobs (id) WHERE state = 'failed'",
    # Both tables are written in order of time: blocks are enough of an index, and cost nearly nothing.
    "CREATE INDEX attempts_at ON attempts USING brin (at)",
    "CREATE INDEX idempotency_keys_created ON idempotency_keys USING brin (created_at)",
)


def upgrade() -> None:
    """Add the table and the indexes."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Remove them."""
    op.execute("DROP INDEX idempotency_keys_created")
    op.execute("DROP INDEX jobs_failed")
    op.execute("DROP TABLE attempts")
