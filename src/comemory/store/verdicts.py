"""Verdicts on events. All are stored; the newest that was not undone counts, and undo removes one at a time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from comemory.errors import StoreError, short_repr
from comemory.store.event import StoredEvent, Verdict, VerdictChange, new_id
from comemory.store.rows import read_event
from comemory.store.schema import events, verdicts


def add_verdict(connection: Connection, id: str, verdict: Verdict | None, by: str, now: datetime) -> StoredEvent:
    """Add a verdict; the event with it.

    Raises:
        StoreError: there is no such event.
    """
    _lock(connection, id)
    row = {"id": new_id(), "event_id": id, "verdict": verdict, "by": by[:200], "at": now}
    connection.execute(insert(verdicts).values(**row))
    return _apply_newest(connection, id)


def undo_verdict(connection: Connection, id: str, by: str, now: datetime) -> StoredEvent:
    """Undo the newest verdict that counts; the event without it.

    Raises:
        StoreError: there is no such event.
    """
    _lock(connection, id)
    newest = _newest_active(connection, id)
    if newest is not None:
        undone = {"undone_by": by[:200], "undone_at": now}
        connection.execute(update(verdicts).where(verdicts.c.id == newest.id).values(**undone))
    return _apply_newest(connection, id)


def history(connection: Connection, id: str) -> list[VerdictChange]:
    """All verdicts on an event, the oldest first."""
    rows = connection.execute(select(verdicts).where(verdicts.c.event_id == id).order_by(verdicts.c.id))
    return [VerdictChange(row.verdict, row.by, row.at, row.undone_at is not None) for row in rows]


def no_such_event(id: str) -> StoreError:
    """The error for an event that does not exist."""
    return StoreError(f"there is no event {short_repr(id)}: it may have been deleted")


def _newest_active(connection: Connection, id: str) -> Any:
    query = select(verdicts.c.id, verdicts.c.verdict).where(verdicts.c.event_id == id, verdicts.c.undone_at.is_(None))
    return connection.execute(query.order_by(verdicts.c.id.desc()).limit(1)).first()


def _lock(connection: Connection, id: str) -> None:
    if connection.execute(select(events.c.id).where(events.c.id == id).with_for_update()).first() is None:
        raise no_such_event(id)


def _apply_newest(connection: Connection, id: str) -> StoredEvent:
    newest = _newest_active(connection, id)
    verdict = newest.verdict if newest is not None else None
    connection.execute(update(events).where(events.c.id == id).values(verdict=verdict))
    event = read_event(connection, id)
    if event is None:
        raise no_such_event(id)
    return event
