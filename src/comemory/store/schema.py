"""The tables, as the newest migration leaves them. A change needs a new file in `migrations/versions`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
)
from sqlalchemy.types import TypeDecorator

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Moment(TypeDecorator[datetime]):
    """An aware time as whole microseconds since 1970, the same in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """A time as the database stores it."""
        return None if value is None else (value - EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """A stored time, in UTC."""
        return None if value is None else EPOCH + timedelta(microseconds=value)


metadata = MetaData()

events = Table(
    "events",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("site", String(32), nullable=False),
    Column("camera", String(200), nullable=False),
    Column("start", Moment, nullable=False),
    Column("peak", Moment, nullable=False),
    Column("end", Moment),
    Column("updated", Moment, nullable=False),
    Column("peak_score", Float(53), nullable=False),
    Column("appearance", Float(53), nullable=False),
    Column("motion", Float(53), nullable=False),
    Column("box", JSON(none_as_null=True)),
    Column("height", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    Column("model", String(64), nullable=False),
    Column("threshold", Float(53), nullable=False),
    Column("verdict", String(16)),
    Column("suppressed", Boolean, nullable=False),
    Column("cells", JSON(none_as_null=True)),
    Column("label", String(64)),
    Column("region", JSON(none_as_null=True)),
    Column("note", Text),
    Column("favourite", Boolean, nullable=False, server_default=false()),
    Index("events_by_camera", "camera", "id"),
    Index("events_by_start", "start"),
    Index("events_by_end", "end"),
    Index("events_by_verdict", "verdict"),
)

files = Table(
    "files",
    metadata,
    Column("event_id", String(64), ForeignKey("events.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("path", String(500), nullable=False, unique=True),
    Column("bytes", BigInteger, nullable=False),
    Column("uploaded", Moment),
)
"""`uploaded` is when the file was complete in the object store; None before, and without one."""

removals = Table(
    "removals",
    metadata,
    Column("path", String(500), primary_key=True),
    Column("site", String(32), nullable=False),
)
"""Objects of files that were deleted: they are to be deleted in the object store too."""

verdicts = Table(
    "verdicts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("event_id", String(64), ForeignKey("events.id", ondelete="CASCADE"), nullable=False),
    Column("verdict", String(16)),
    Column("by", String(200), nullable=False),
    Column("at", Moment, nullable=False),
    Column("undone_by", String(200)),
    Column("undone_at", Moment),
    Index("verdicts_by_event", "event_id", "id"),
)

states = Table(
    "states",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("site", String(32), nullable=False),
    Column("camera", String(200), nullable=False),
    Column("state", String(64), nullable=False),
    Column("message", Text),
    Column("at", Moment, nullable=False),
    Index("states_by_camera", "camera", "id"),
)

scores = Table(
    "scores",
    metadata,
    Column("site", String(32), primary_key=True),
    Column("camera", String(200), primary_key=True),
    Column("minute", Moment, primary_key=True),
    Column("model", String(64), nullable=False),
    Column("peak", Float(53), nullable=False),
    Column("maxima", LargeBinary, nullable=False),
    Index("scores_by_minute", "minute"),
)

activity = Table(
    "activity",
    metadata,
    Column("site", String(32), primary_key=True),
    Column("camera", String(200), primary_key=True),
    Column("hour", Moment, primary_key=True),
    Column("frames", Integer, nullable=False),
    Column("cells", LargeBinary, nullable=False),
    Index("activity_by_hour", "hour"),
)
"""What moved in each hour, see `activity.HourOfActivity`."""

outbox = Table(
    "outbox",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("site", String(32), nullable=False),
    Column("sink", String(200), nullable=False),
    Column("subject", String(300), nullable=False),
    Column("event_id", String(64)),
    Column("camera", String(200), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("payload", JSON, nullable=False),
    Column("created", Moment, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_try", Moment),
    Column("delivered_at", Moment),
    Column("failed_at", Moment),
    Column("held", String(32)),
    Column("last_error", Text),
    Index("outbox_by_next_try", "sink", "next_try"),
    Index("outbox_by_subject", "sink", "subject", "id"),
    Index("outbox_by_camera", "sink", "camera", "kind", "created"),
)
"""Alerts of one `subject` (an event, or a camera's state) are delivered in order. `next_try` is None once an alert is
finished. `held` says why an alert is not sent: see `routing.HoldReason`."""

retained_topics = Table(
    "announced",
    metadata,
    Column("site", String(32), primary_key=True),
    Column("sink", String(200), primary_key=True),
    Column("broker", String(300), primary_key=True),
    Column("topic", String(500), primary_key=True),
)
"""Topics that MQTT brokers retain for this site."""
