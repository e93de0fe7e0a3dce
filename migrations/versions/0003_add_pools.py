"""Add to workers their pool, and the memory that their engines take and may take."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Old workers go on beating: every new column has a default."""
    op.execute(
        "ALTER TABLE workers ADD COLUMN pool text NOT NULL DEFAULT 'default', "
        "ADD COLUMN memory_bytes bigint, ADD COLUMN memory_budget_bytes bigint"
    )


def downgrade() -> None:
    """Forget the pools."""
    op.execute(
        "ALTER TABLE workers DROP COLUMN pool, DROP COLUMN memory_bytes, DROP COLUMN memory_budget_bytes"
    )
