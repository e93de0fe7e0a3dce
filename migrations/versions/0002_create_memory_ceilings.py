"""Create memory_ceilings: how many rows fit, by model version, kind of device and bucket."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.execute(
        """
        CREATE TABLE memory_ceilings (
            model text NOT NULL,
            version integer NOT NULL,
            device text NOT NULL,
            bucket text NOT NULL,
            rows integer NOT NULL,
            tokens bigint NOT NULL,
            recorded_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT memory_ceilings_pkey PRIMARY KEY (model, version, device, bucket)
        )
        """
    )


def downgrade() -> None:
    """Drop it; engines find the ceilings again."""
    op.execute("DROP TABLE memory_ceilings")
