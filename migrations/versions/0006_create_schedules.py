"""Create schedules, their windows and the files that they have scored; scorings say whose window they are."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE schedules (
        id uuid NOT NULL,
        tenant text NOT NULL DEFAULT 'default',
        name text NOT NULL,
        definition jsonb NOT NULL,
        decided_until timestamptz NOT NULL,
        paused boolean NOT NULL DEFAULT false,
        backfill_paused boolean NOT NULL DEFAULT false,
        backfill_at_once integer NOT NULL DEFAULT 1,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT schedules_pkey PRIMARY KEY (id)
    )
    """,
    "CREATE UNIQUE INDEX schedules_name ON schedules (tenant, name)",
    # The key is what lets a window be fired only once, whoever fires it.
    """
    CREATE TABLE schedule_windows (
        schedule uuid NOT NULL,
        start timestamptz NOT NULL,
        cause text NOT NULL,
        state text NOT NULL,
        attempt integer NOT NULL DEFAULT 0,
        scoring uuid,
        tried_at timestamptz,
        not_before timestamptz,
        error jsonb,
        warning text,
        CONSTRAINT schedule_windows_pkey PRIMARY KEY (schedule, start)
    )
    """,
    "CREATE INDEX schedule_windows_pending ON schedule_windows (schedule, start) WHERE state = 'pending'",
    "CREATE UNIQUE INDEX schedule_windows_scoring ON schedule_windows (scoring)",
    """
    CREATE TABLE schedule_files (
        schedule uuid NOT NULL,
        url text NOT NULL,
        tag text NOT NULL,
        scoring uuid NOT NULL,
        CONSTRAINT schedule_files_pkey PRIMARY KEY (schedule, url)
    )
    """,
    "CREATE INDEX schedule_files_scoring ON schedule_files (scoring)",
    "ALTER TABLE scorings ADD COLUMN schedule_name text, ADD COLUMN window_start timestamptz",
    """
    CREATE INDEX scorings_schedule ON scorings (schedule_name, window_start) WHERE schedule_name IS NOT NULL
    """,
)


def upgrade() -> None:
    """Create the tables, and add the columns."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Remove them; scorings that schedules have begun stay."""
    op.execute("DROP INDEX scorings_schedule")
    op.execute("ALTER TABLE scorings DROP COLUMN window_start, DROP COLUMN schedule_name")
    for table in ("schedule_files", "schedule_windows", "schedules"):
        op.execute(f"DROP TABLE {table}")
