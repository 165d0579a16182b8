"""Scores belong to a media folder, as events do: machines that share a database may have cameras of one name."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

TIME = sa.BigInteger
NUMBER = sa.Float(53)


def upgrade() -> None:
    """Add the site to the key of the table of scores."""
    op.drop_index("scores_by_minute", "scores")
    op.rename_table("scores", "scores_before")
    op.create_table(
        "scores",
        sa.Column("site", sa.String(32), primary_key=True),
        sa.Column("camera", sa.String(200), primary_key=True),
        sa.Column("minute", TIME, primary_key=True),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("peak", NUMBER, nullable=False),
        sa.Column("maxima", sa.LargeBinary, nullable=False),
    )
    op.create_index("scores_by_minute", "scores", ["minute"])
    _give_to_sites()
    op.drop_table("scores_before")


def _give_to_sites() -> None:
    """Scores go to the folder that the camera's newest state or event is of; those of no known camera are dropped."""
    connection = op.get_bind()
    cameras = connection.execute(sa.text("SELECT DISTINCT camera FROM scores_before")).scalars().all()
    for camera in cameras:
        for table in ("states", "events"):
            newest = f"SELECT site FROM {table} WHERE camera = :camera ORDER BY id DESC LIMIT 1"
            site = connection.execute(sa.text(newest), {"camera": camera}).scalar()
            if site is not None:
                moved = (
                    "INSERT INTO scores (site, camera, minute, model, peak, maxima) "
                    "SELECT :site, camera, minute, model, peak, maxima FROM scores_before WHERE camera = :camera"
                )
                connection.execute(sa.text(moved), {"site": site, "camera": camera})
                break
