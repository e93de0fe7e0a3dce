"""Let schedules keep the mark up to which they have scored a column's rows."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, empty for schedules that have scored no such row."""
    op.execute("ALTER TABLE schedules ADD COLUMN watermark jsonb")


def downgrade() -> None:
    """Remove it: a schedule by a column would score every row once more."""
    op.execute("ALTER TABLE schedules DROP COLUMN watermark")
