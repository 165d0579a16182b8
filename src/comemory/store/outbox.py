"""The outbox: alerts wait in the store's database, written in the same transaction as the change they report.

A committed event therefore always has its alerts, and a rolled back one has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, case, delete, exists, func, insert, select, update

from comemory.store.database import Database
from comemory.store.routing import Change, HoldReason, PlannedAlert, SinkRoute, alert_id, payload_of, plan_alerts
from comemory.store.schema import events, outbox
from comemory.types import JSON

OUTCOMES = ("pending", "delivered", "failed", "muted")
_NOT_SELECTED: HoldReason = "not selected"
_SENT = "sent"


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert to be delivered now.

    Attributes:
        id: the same at every attempt.
        event_id: None for an alert that is not of an event.
        attempts: this one included.
    """

    id: str
    sink: str
    kind: str
    camera: str
    event_id: str | None
    payload: JSON
    created: datetime
    attempts: int


class PendingRow(NamedTuple):
    """An alert without a delivery attempt so far."""

    id: str
    payload: JSON


class Outbox:
    """The outbox of one site. All methods may be called from any thread.

    Args:
        database: of the store.
        site: only rows of this media folder are read and written.

    Attributes:
        on_added: called after alerts were committed.
        was_delivered: whether an alert was delivered before it came here, while the store could not be written.
    """

    def __init__(self, database: Database, site: str) -> None:
        self.on_added: Callable[[], None] | None = None
        self.was_delivered: Callable[[str], bool] = lambda _id: False
        self._database = database
        self._site = site
        self._routes: dict[str, SinkRoute] = {}

    def set_routes(self, routes: Mapping[str, SinkRoute]) -> None:
        """From now on, changes make alerts for these sinks."""
        self._routes = dict(routes)

    def add(self, connection: Connection, change: Change, only: str | None = None) -> None:
        """Write the alerts of a change, in the caller's transaction; for one sink alone where `only` names it."""
        for sink, route in self._routes.items():
            if only not in (None, sink):
                continue
            for planned in plan_alerts(route, change, _History(connection, self._site, sink)):
                merge = {"state": self._merge_state, "update": self._merge_update}.get(planned.change.kind)
                if merge is None or not merge(connection, sink, route, planned.change):
                    self._insert(connection, sink, route, planned)

    def notify(self) -> None:
        """Announce that a transaction with new alerts was committed."""
        if self.on_added is not None:
            self.on_added()

    def missed_ends(self, connection: Connection) -> list[tuple[str, str]]:
        """Pairs of sink and event: the start was sent, the event has ended, and the sink has no alert of the end."""
        ends = outbox.alias()
        has_end = exists().where(
            ends.c.sink == outbox.c.sink,
            ends.c.subject == outbox.c.subject,
            ends.c.site == outbox.c.site,
            ends.c.kind == "end",
        )
        query = select(outbox.c.sink, outbox.c.subject).join(events, events.c.id == outbox.c.event_id)
        query = query.where(
            outbox.c.sink.in_([sink for sink, route in self._routes.items() if route.selects("end")]),
            outbox.c.site == self._site,
            outbox.c.kind == "new",
            outbox.c.held.is_(None) | (outbox.c.held == _NOT_SELECTED),
            events.c.end.is_not(None),
            ~has_end,
        )
        return [(row.sink, row.subject) for row in connection.execute(query)]

    def _merge_state(self, connection: Connection, sink: str, route: SinkRoute, change: Change) -> bool:
        """A state that passes before its delay is over is never sent: the waiting alert is changed or deleted."""
        waiting = self._untried(connection, sink, change.subject, "state")
        if waiting is None:
            return False
        before = waiting.payload["before"]
        if before is not None and before["state"] == change.after["state"]:
            connection.execute(delete(outbox).where(outbox.c.id == waiting.id))
            return True
        payload = {**waiting.payload, "after": change.after}
        due = change.stamp.time + route.delay("state")
        connection.execute(update(outbox).where(outbox.c.id == waiting.id).values(payload=payload, next_try=due))
        return True

    def _merge_update(self, connection: Connection, sink: str, route: SinkRoute, change: Change) -> bool:
        """An update replaces one that still waits."""
        waiting = self._untried(connection, sink, change.subject, "update")
        if waiting is None:
            return False
        payload = {**waiting.payload, "after": change.after}
        connection.execute(update(outbox).where(outbox.c.id == waiting.id).values(payload=payload))
        return True

    def _untried(self, connection: Connection, sink: str, subject: str, kind: str) -> PendingRow | None:
        query = select(outbox.c.id, outbox.c.payload).where(
            outbox.c.sink == sink,
            outbox.c.site == self._site,
            outbox.c.subject == subject,
            outbox.c.kind == kind,
            outbox.c.attempts == 0,
            outbox.c.next_try.is_not(None),
        )
        found = connection.execute(query.order_by(outbox.c.id.desc()).limit(1)).first()
        return None if found is None else PendingRow(found.id, found.payload)

    def _insert(self, connection: Connection, sink: str, route: SinkRoute, planned: PlannedAlert) -> None:
        """Write an alert, unless it is there: a change that is stored a second time makes no second alert."""
        change, id = planned.change, alert_id(sink, planned.change)
        if connection.execute(select(outbox.c.id).where(outbox.c.id == id)).first() is not None:
            return
        is_done = planned.hold is not None or self.was_delivered(id)
        connection.execute(
            insert(outbox).values(
                id=id,
                site=self._site,
                sink=sink,
                subject=change.subject,
                event_id=change.event.id if change.event else None,
                camera=change.camera,
                kind=change.kind,
                payload=payload_of(sink, route, change) if planned.hold is None else {},
                created=change.stamp.time,
                attempts=0,
                next_try=None if is_done else change.stamp.time + route.delay(change.kind),
                delivered_at=change.stamp.time if is_done and planned.hold is None else None,
                held=planned.hold,
            )
        )

    def claim(self, sink: str, now: datetime) -> Alert | None:
        """The next alert that is due. Its next attempt is scheduled as if this one failed, so a crash loses nothing.

        Alerts of one subject are delivered in order: the oldest first, the later ones wait for it. Among subjects,
        alerts without an attempt go before those that failed.

        Raises:
            StoreError: the database does not answer.
        """
        fresh_first = case((outbox.c.attempts == 0, 0), else_=1)
        query = select(outbox).where(self._ready(sink), outbox.c.next_try <= now).order_by(fresh_first, outbox.c.id)
        with self._database.read() as connection:
            if connection.execute(query.limit(1)).first() is None:
                return None
        with self._database.write() as connection:
            row = connection.execute(query.limit(1)).first()
            if row is None:
                return None
            route = self._routes[sink]
            values = {
                "attempts": row.attempts + 1,
                "next_try": now + route.timeout + route.retry_wait(row.attempts),
            }
            connection.execute(update(outbox).where(outbox.c.id == row.id).values(**values))
        return Alert(row.id, sink, row.kind, row.camera, row.event_id, row.payload, row.created, row.attempts + 1)

    def _ready(self, sink: str) -> ColumnElement[bool]:
        """Alerts of a sink that no earlier alert of the same subject blocks."""
        earlier = outbox.alias()
        blocked = exists().where(
            earlier.c.sink == outbox.c.sink,
            earlier.c.subject == outbox.c.subject,
            earlier.c.site == outbox.c.site,
            earlier.c.id < outbox.c.id,
            earlier.c.next_try.is_not(None),
        )
        return and_(outbox.c.sink == sink, outbox.c.site == self._site, ~blocked)

    def mark_delivered(self, alert: Alert, now: datetime) -> None:
        """Record that the alert has arrived."""
        with self._database.write() as connection:
            done = {"delivered_at": now, "next_try": None, "last_error": None}
            connection.execute(update(outbox).where(outbox.c.id == alert.id).values(**done))

    def mark_failed(self, alert: Alert, reason: str, now: datetime) -> bool:
        """Record that an attempt has failed; True where the alert is given up because it is too old."""
        route = self._routes[alert.sink]
        is_given_up = now - alert.created > route.max_age
        values = {
            "last_error": reason[:1000],
            "next_try": None if is_given_up else now + route.retry_wait(alert.attempts - 1),
            "failed_at": now if is_given_up else None,
        }
        with self._database.write() as connection:
            connection.execute(update(outbox).where(outbox.c.id == alert.id).values(**values))
        return is_given_up

    def next_due(self, sink: str) -> datetime | None:
        """When the next delivery attempt of a sink is due; None where nothing waits."""
        query = select(func.min(outbox.c.next_try)).where(self._ready(sink), outbox.c.next_try.is_not(None))
        with self._database.read() as connection:
            due: datetime | None = connection.execute(query).scalar()
            return due

    def give_up_unknown(self, now: datetime) -> int:
        """Give up the alerts that wait for sinks which the settings no longer have; the number of them."""
        unknown = and_(
            outbox.c.site == self._site, outbox.c.next_try.is_not(None), outbox.c.sink.not_in(list(self._routes))
        )
        values = {"next_try": None, "failed_at": now, "last_error": "the sink is no longer in the settings"}
        with self._database.write() as connection:
            return connection.execute(update(outbox).where(unknown).values(**values)).rowcount

    def counts(self) -> dict[str, dict[str, int]]:
        """For each sink, the number of alerts with each of `OUTCOMES`."""
        outcome = case(
            (outbox.c.delivered_at.is_not(None), "delivered"),
            (outbox.c.failed_at.is_not(None), "failed"),
            (outbox.c.held == _NOT_SELECTED, "none"),
            (outbox.c.held.is_not(None), "muted"),
            else_="pending",
        ).label("outcome")
        query = select(outbox.c.sink, outcome, func.count()).where(outbox.c.site == self._site)
        query = query.group_by(outbox.c.sink, "outcome")
        found = {sink: dict.fromkeys(OUTCOMES, 0) for sink in self._routes}
        with self._database.read() as connection:
            for sink, name, number in connection.execute(query):
                if name in OUTCOMES:
                    found.setdefault(sink, dict.fromkeys(OUTCOMES, 0))[name] = number
        return found


class _History:
    """What a sink was sent, read from the outbox. See `routing.History`."""

    def __init__(self, connection: Connection, site: str, sink: str) -> None:
        self._connection, self._of_sink = connection, (outbox.c.site == site, outbox.c.sink == sink)

    def start_of(self, subject: str) -> str | None:
        query = select(outbox.c.held).where(*self._of_sink, outbox.c.subject == subject, outbox.c.kind == "new")
        found = self._connection.execute(query.limit(1)).first()
        return None if found is None else found.held or _SENT

    def has_recent(self, camera: str, since: datetime, until: datetime) -> bool:
        """Alerts from the future do not count: after the clock was set back, they would mute all events."""
        recent = exists().where(
            *self._of_sink,
            outbox.c.camera == camera,
            outbox.c.kind == "new",
            outbox.c.created > since,
            outbox.c.created <= until,
            outbox.c.held.is_(None) | (outbox.c.held == _NOT_SELECTED),
        )
        return bool(self._connection.execute(select(recent)).scalar())
