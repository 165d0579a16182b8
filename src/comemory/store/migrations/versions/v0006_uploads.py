"""Which media files are in the object store, and which are to be deleted there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column and the table; no file so far is in an object store."""
    op.add_column("files", sa.Column("uploaded", sa.BigInteger))
    op.create_table(
        "removals",
        sa.Column("path", sa.String(500), primary_key=True),
        sa.Column("site", sa.String(32), nullable=False),
    )
