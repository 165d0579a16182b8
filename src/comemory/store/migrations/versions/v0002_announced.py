"""Retained topics of brokers, so that they can be taken back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the table of retained topics."""
    op.create_table(
        "announced",
        sa.Column("site", sa.String(32), primary_key=True),
        sa.Column("sink", sa.String(200), primary_key=True),
        sa.Column("broker", sa.String(300), primary_key=True),
        sa.Column("topic", sa.String(500), primary_key=True),
    )
