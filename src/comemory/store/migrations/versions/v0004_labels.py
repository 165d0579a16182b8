"""The label of an event: what an object detector finds at its peak."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column; events so far have no label."""
    op.add_column("events", sa.Column("label", sa.String(64)))
