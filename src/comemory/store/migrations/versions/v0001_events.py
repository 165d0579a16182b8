"""The first schema: events with their files and verdicts, camera states, scores by the minute, the outbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TIME = sa.BigInteger
NUMBER = sa.Float(53)


def upgrade() -> None:
    """Create the tables."""
    _events()
    _of_cameras()
    _outbox()


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("site", sa.String(32), nullable=False),
        sa.Column("camera", sa.String(200), nullable=False),
        sa.Column("start", TIME, nullable=False),
        sa.Column("peak", TIME, nullable=False),
        sa.Column("end", TIME),
        sa.Column("updated", TIME, nullable=False),
        sa.Column("peak_score", NUMBER, nullable=False),
        sa.Column("appearance", NUMBER, nullable=False),
        sa.Column("motion", NUMBER, nullable=False),
        sa.Column("box", sa.JSON),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("threshold", NUMBER, nullable=False),
        sa.Column("verdict", sa.String(16)),
        sa.Column("suppressed", sa.Boolean, nullable=False),
        sa.Column("cells", sa.JSON),
    )
    op.create_index("events_by_camera", "events", ["camera", "id"])
    op.create_index("events_by_start", "events", ["start"])
    op.create_index("events_by_end", "events", ["end"])
    op.create_index("events_by_verdict", "events", ["verdict"])
    op.create_table(
        "files",
        sa.Column("event_id", sa.String(64), sa.ForeignKey("events.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("path", sa.String(500), nullable=False, unique=True),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "verdicts",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("event_id", sa.String(64), sa.ForeignKey("events.id", ondelete="CASCADE"), nullable=False),
        sa.Column("verdict", sa.String(16)),
        sa.Column("by", sa.String(200), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("undone_by", sa.String(200)),
        sa.Column("undone_at", TIME),
    )
    op.create_index("verdicts_by_event", "verdicts", ["event_id", "id"])


def _of_cameras() -> None:
    op.create_table(
        "states",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("site", sa.String(32), nullable=False),
        sa.Column("camera", sa.String(200), nullable=False),
        sa.Column("state", sa.String(64), nullable=False),
        sa.Column("message", sa.Text),
        sa.Column("at", TIME, nullable=False),
    )
    op.create_index("states_by_camera", "states", ["camera", "id"])
    op.create_table(
        "scores",
        sa.Column("camera", sa.String(200), primary_key=True),
        sa.Column("minute", TIME, primary_key=True),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("peak", NUMBER, nullable=False),
        sa.Column("maxima", sa.LargeBinary, nullable=False),
    )
    op.create_index("scores_by_minute", "scores", ["minute"])


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("site", sa.String(32), nullable=False),
        sa.Column("sink", sa.String(200), nullable=False),
        sa.Column("subject", sa.String(300), nullable=False),
        sa.Column("event_id", sa.String(64)),
        sa.Column("camera", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("payload", sa.JSON, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_try", TIME),
        sa.Column("delivered_at", TIME),
        sa.Column("failed_at", TIME),
        sa.Column("held", sa.String(32)),
        sa.Column("last_error", sa.Text),
    )
    op.create_index("outbox_by_next_try", "outbox", ["sink", "next_try"])
    op.create_index("outbox_by_subject", "outbox", ["sink", "subject", "id"])
    op.create_index("outbox_by_camera", "outbox", ["sink", "camera", "kind", "created"])
