"""Notes and favourites of events, the outline of the anomaly, and the activity by hour."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the columns and the table; no event so far is a favourite."""
    op.add_column("events", sa.Column("region", sa.JSON(none_as_null=True)))
    op.add_column("events", sa.Column("note", sa.Text))
    op.add_column("events", sa.Column("favourite", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_table(
        "activity",
        sa.Column("site", sa.String(32), primary_key=True),
        sa.Column("camera", sa.String(200), primary_key=True),
        sa.Column("hour", sa.BigInteger, primary_key=True),
        sa.Column("frames", sa.Integer, nullable=False),
        sa.Column("cells", sa.LargeBinary, nullable=False),
    )
    op.create_index("activity_by_hour", "activity", ["hour"])
