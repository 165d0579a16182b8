"""What people say of events: every word is kept, the newest that stands counts, and undo takes back one at a time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from comemory.errors import StoreError, short
from comemory.store.event import StoredEvent, Verdict, VerdictChange, new_id
from comemory.store.rows import read_event
from comemory.store.schema import events, verdicts


def say(connection: Connection, id: str, verdict: Verdict | None, by: str, now: datetime) -> StoredEvent:
    """Keep a verdict, and give the event as it is then.

    Raises:
        StoreError: there is no such event.
    """
    _lock(connection, id)
    row = {"id": new_id(), "event_id": id, "verdict": verdict, "by": by[:200], "at": now}
    connection.execute(insert(verdicts).values(**row))
    return _settle(connection, id)


def take_back(connection: Connection, id: str, by: str, now: datetime) -> StoredEvent:
    """Undo the newest verdict that stands, and give the event as it is then.

    Raises:
        StoreError: there is no such event.
    """
    _lock(connection, id)
    newest = _standing(connection, id)
    if newest is not None:
        undone = {"undone_by": by[:200], "undone_at": now}
        connection.execute(update(verdicts).where(verdicts.c.id == newest.id).values(**undone))
    return _settle(connection, id)


def history(connection: Connection, id: str) -> list[VerdictChange]:
    """All that was said of an event, the oldest first."""
    rows = connection.execute(select(verdicts).where(verdicts.c.event_id == id).order_by(verdicts.c.id))
    return [VerdictChange(row.verdict, row.by, row.at, row.undone_at is not None) for row in rows]


def missing(id: str) -> StoreError:
    """What to raise where an event is not there."""
    return StoreError(f"there is no event {short(id)}: it may have been deleted")


def _standing(connection: Connection, id: str) -> Any:
    asked = select(verdicts.c.id, verdicts.c.verdict).where(verdicts.c.event_id == id, verdicts.c.undone_at.is_(None))
    return connection.execute(asked.order_by(verdicts.c.id.desc()).limit(1)).first()


def _lock(connection: Connection, id: str) -> None:
    if connection.execute(select(events.c.id).where(events.c.id == id).with_for_update()).first() is None:
        raise missing(id)


def _settle(connection: Connection, id: str) -> StoredEvent:
    newest = _standing(connection, id)
    verdict = newest.verdict if newest is not None else None
    connection.execute(update(events).where(events.c.id == id).values(verdict=verdict))
    event = read_event(connection, id)
    if event is None:
        raise missing(id)
    return event
