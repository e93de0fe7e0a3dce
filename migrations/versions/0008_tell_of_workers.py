"""Let workers tell which version of Shunter they run, and how far their clock is off."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, empty for workers that do not tell."""
    op.execute("ALTER TABLE workers ADD COLUMN software text, ADD COLUMN clock_ahead_s double precision")


def downgrade() -> None:
    """Remove them."""
    op.execute("ALTER TABLE workers DROP COLUMN software, DROP COLUMN clock_ahead_s")
