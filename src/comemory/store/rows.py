"""Events as rows of tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from comemory.store.activity import N_CELLS, HourOfActivity, pack_activity, unpack_activity
from comemory.store.event import EventSummary, StateChange, StoreCounts, StoredEvent, new_id, utc
from comemory.store.schema import activity, events, files, scores, states


def read_events(
    connection: Connection, *conditions: ColumnElement[bool], limit: int | None = None, newest_first: bool = True
) -> list[StoredEvent]:
    """The events that meet all conditions, with their files."""
    order = events.c.id.desc() if newest_first else events.c.id.asc()
    rows = connection.execute(select(events).where(*conditions).order_by(order).limit(limit)).all()
    paths = read_paths(connection, [row.id for row in rows])
    return [_event(row, paths.get(row.id, {})) for row in rows]


def read_event(connection: Connection, id: str) -> StoredEvent | None:
    """The event of an id, None where there is none."""
    found = read_events(connection, events.c.id == id, limit=1)
    return found[0] if found else None


def read_summaries(
    connection: Connection, *conditions: ColumnElement[bool], limit: int
) -> tuple[list[EventSummary], int]:
    """The newest events that meet all conditions, and the number of all that do."""
    columns = [events.c[field.name] for field in fields(EventSummary)]
    rows = connection.execute(select(*columns).where(*conditions).order_by(events.c.id.desc()).limit(limit)).all()
    n = len(rows)
    if n == limit:
        n = int(connection.execute(select(func.count()).select_from(events).where(*conditions)).scalar_one())
    return [EventSummary(*row) for row in rows], n


def read_paths(connection: Connection, ids: Sequence[str]) -> dict[str, dict[str, str]]:
    """Paths of files, by event and kind."""
    found: dict[str, dict[str, str]] = {}
    for some in _batches(ids):
        query = select(files.c.event_id, files.c.kind, files.c.path).where(files.c.event_id.in_(some))
        for event_id, kind, path in connection.execute(query):
            found.setdefault(event_id, {})[kind] = path
    return found


def write_event(connection: Connection, event: StoredEvent, site: str, now: datetime, *, is_new: bool) -> None:
    """Insert an event, or replace what the engine measured of it: the verdict and the files stay as they are."""
    values: dict[str, Any] = {
        "camera": event.camera,
        "start": event.start,
        "peak": event.peak,
        "end": event.end,
        "updated": now,
        "peak_score": event.peak_score,
        "appearance": event.appearance,
        "motion": event.motion,
        "box": list(event.box) if event.box is not None else None,
        "height": event.size[0],
        "width": event.size[1],
        "model": event.model,
        "threshold": event.threshold,
        "suppressed": event.suppressed,
        "cells": list(event.cells) if event.cells is not None else None,
        "label": event.label,
        "region": None if event.region is None else [list(point) for point in event.region],
    }
    if is_new:
        connection.execute(insert(events).values(id=event.id, site=site, verdict=None, **values))
    else:
        connection.execute(update(events).where(events.c.id == event.id).values(**values))


def write_state(connection: Connection, change: StateChange, site: str) -> None:
    """Add a change of a camera's state."""
    row = {"id": new_id(), "site": site, "camera": change.camera, "state": change.state}
    connection.execute(insert(states).values(**row, message=change.message, at=change.at))


def write_score_minute(
    connection: Connection, camera: str, minute: datetime, peak: float, packed: bytes, model: str, site: str
) -> None:
    """Insert or replace the scores of a minute."""
    values = {"model": model, "peak": float(peak), "maxima": packed}
    key = {"site": site, "camera": camera, "minute": minute.replace(second=0, microsecond=0)}
    insertion = sqlite_insert if connection.dialect.name == "sqlite" else postgres_insert
    added = insertion(scores).values(**key, **values)
    connection.execute(added.on_conflict_do_update(index_elements=list(key), set_=values))


def add_activity(connection: Connection, camera: str, part: HourOfActivity, site: str) -> None:
    """Add a part of an hour to what is stored of that hour.

    Raises:
        StoreError: the numbers are not those of a grid.
    """
    hour = utc(part.hour).replace(minute=0, second=0, microsecond=0)
    key = (activity.c.site == site, activity.c.camera == camera, activity.c.hour == hour)
    row = connection.execute(select(activity).where(*key).with_for_update()).first()
    if row is None:
        values = {"site": site, "camera": camera, "hour": hour, "frames": part.frames, "cells": pack_activity(part)}
        connection.execute(insert(activity).values(**values))
        return
    before = unpack_activity(hour, row.frames, row.cells)
    total = HourOfActivity(hour, before.frames + part.frames, before.moving + part.moving, before.speed + part.speed)
    connection.execute(update(activity).where(*key).values(frames=total.frames, cells=pack_activity(total)))


def read_activity(connection: Connection, camera: str, since: datetime, sites: Collection[str]) -> list[HourOfActivity]:
    """The recorded hours of a camera since a time, in order; an hour of several media folders comes once for each."""
    conditions = activity.c.site.in_(sites), activity.c.camera == camera, activity.c.hour >= utc(since)
    rows = connection.execute(select(activity).where(*conditions).order_by(activity.c.hour))
    return [unpack_activity(row.hour, row.frames, row.cells) for row in rows if len(row.cells) == 8 * N_CELLS]


def read_states(
    connection: Connection, camera: str | None, since: datetime | None, limit: int, sites: Collection[str] | None = None
) -> list[StateChange]:
    """Changes of camera states, the newest first; of one camera and of some media folders where they are given."""
    query = select(states).order_by(states.c.id.desc()).limit(limit)
    if camera is not None:
        query = query.where(states.c.camera == camera)
    if since is not None:
        query = query.where(states.c.at >= utc(since))
    if sites is not None:
        query = query.where(states.c.site.in_(sites))
    return [StateChange(row.camera, row.state, row.message, row.at) for row in connection.execute(query)]


def count_stored(
    connection: Connection, sites: Collection[str], alerts: Mapping[str, Mapping[str, int]], free_bytes: int | None
) -> StoreCounts:
    """Numbers of events and files of media folders; those of alerts and the disk come from the caller."""
    of_site = events.c.site.in_(sites)

    def number(*conditions: ColumnElement[bool]) -> int:
        return int(
            connection.execute(select(func.count()).select_from(events).where(of_site, *conditions)).scalar_one()
        )

    by_camera = select(events.c.camera, func.count()).where(of_site).group_by(events.c.camera).order_by(events.c.camera)
    stored = select(func.count(), func.sum(files.c.bytes)).select_from(files).join(events).where(of_site)
    n_files, n_bytes = connection.execute(stored).one()
    return StoreCounts(
        events=number(),
        open=number(events.c.end.is_(None)),
        suppressed=number(events.c.suppressed.is_(True)),
        normal=number(events.c.verdict == "normal"),
        abnormal=number(events.c.verdict == "abnormal"),
        cameras={row[0]: row[1] for row in connection.execute(by_camera)},
        files=n_files,
        bytes=int(n_bytes or 0),
        free_bytes=free_bytes,
        alerts=alerts,
    )


def _event(row: Any, paths: dict[str, str]) -> StoredEvent:
    return StoredEvent(
        id=row.id,
        camera=row.camera,
        start=row.start,
        peak=row.peak,
        end=row.end,
        peak_score=row.peak_score,
        appearance=row.appearance,
        motion=row.motion,
        box=tuple(row.box) if row.box is not None else None,
        size=(row.height, row.width),
        model=row.model,
        threshold=row.threshold,
        verdict=row.verdict,
        suppressed=row.suppressed,
        files=paths,
        cells=tuple(row.cells) if row.cells is not None else None,
        label=row.label,
        region=None if row.region is None else tuple((x, y) for x, y in row.region),
        note=row.note,
        favourite=row.favourite,
    )


def _batches(ids: Sequence[str], size: int = 500) -> Iterable[Sequence[str]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))
