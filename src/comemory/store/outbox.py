"""Alerts that wait in the store's database, written in the transaction of what they tell of, so that none is lost."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, case, delete, exists, func, insert, select, update

from comemory.alerts.config import SinkSettings
from comemory.alerts.rules import Change, Held, Rules
from comemory.store.database import Database
from comemory.store.event import iso, new_id
from comemory.store.schema import events, outbox
from comemory.types import JSON

OUTCOMES = ("pending", "delivered", "failed", "held")
_NOT_ASKED_FOR: Held = "not asked for"


@dataclass(frozen=True, slots=True)
class Alert:
    """A row of the outbox that is to be delivered now; `attempts` counts this try."""

    id: str
    sink: str
    kind: str
    camera: str
    event_id: str | None
    payload: JSON
    created: datetime
    attempts: int


class Waiting(NamedTuple):
    """A row that nobody has tried to deliver yet."""

    id: str
    payload: JSON


class Outbox:
    """The outbox of one site.

    Args:
        database: the store's.
        site: only rows of this media folder are seen.

    Attributes:
        on_put: called after rows were put in.
    """

    def __init__(self, database: Database, site: str) -> None:
        self.on_put: Callable[[], None] | None = None
        self._database = database
        self._site = site
        self._rules: dict[str, Rules] = {}

    def route(self, sinks: Mapping[str, SinkSettings]) -> None:
        """From now on, put changes in for these sinks."""
        self._rules = {name: Rules(settings) for name, settings in sinks.items()}

    def put(self, connection: Connection, change: Change, now: datetime, only: str | None = None) -> None:
        """Write the rows that a change makes, in the caller's transaction; for one sink alone where it is named."""
        for sink, rules in self._rules.items():
            if only not in (None, sink):
                continue
            if change.kind == "state":
                if rules.concerns(change):
                    self._put_state(connection, sink, rules, change, now)
            else:
                self._put_event(connection, sink, rules, change, now)

    def announce(self) -> None:
        """Say that a transaction with new rows was committed."""
        if self.on_put is not None:
            self.on_put()

    def missed_ends(self, connection: Connection) -> list[tuple[str, str]]:
        """Sinks and events: the sink heard of the beginning and wants ends, the event has one, and it was not told."""
        ends = outbox.alias()
        told = exists().where(
            ends.c.sink == outbox.c.sink,
            ends.c.subject == outbox.c.subject,
            ends.c.site == outbox.c.site,
            ends.c.kind == "end",
        )
        asked = select(outbox.c.sink, outbox.c.subject).join(events, events.c.id == outbox.c.event_id)
        asked = asked.where(
            outbox.c.sink.in_([sink for sink, rules in self._rules.items() if "end" in rules.settings.kinds]),
            outbox.c.site == self._site,
            outbox.c.kind == "new",
            outbox.c.held.is_(None) | (outbox.c.held == _NOT_ASKED_FOR),
            events.c.end.is_not(None),
            ~told,
        )
        return [(row.sink, row.subject) for row in connection.execute(asked)]

    def _put_event(self, connection: Connection, sink: str, rules: Rules, change: Change, now: datetime) -> None:
        told = self._told(connection, sink, change.subject)
        if told is None:
            if not rules.concerns(change):
                return
            held = self._held(connection, sink, rules, change, now)
            self._insert(connection, sink, rules, replace(change, kind="new", before=None), now, held)
            if change.kind != "end" or held in ("cool-down", "quiet hours"):
                return
        elif told in ("cool-down", "quiet hours") or change.kind == "new":
            return
        if change.kind not in rules.settings.kinds:
            return
        if change.kind == "update" and self._fold(connection, sink, change):
            return
        self._insert(connection, sink, rules, change, now)

    def _put_state(self, connection: Connection, sink: str, rules: Rules, change: Change, now: datetime) -> None:
        waiting = self._untried(connection, sink, change.subject, "state")
        if waiting is None:
            self._insert(connection, sink, rules, change, now)
            return
        before = waiting.payload["before"]
        if before is not None and before["state"] == change.after["state"]:
            connection.execute(delete(outbox).where(outbox.c.id == waiting.id))
            return
        payload = {**waiting.payload, "after": change.after}
        due = now + rules.delay("state")
        connection.execute(update(outbox).where(outbox.c.id == waiting.id).values(payload=payload, next_try=due))

    def _fold(self, connection: Connection, sink: str, change: Change) -> bool:
        """Let an update take the place of the one that still waits."""
        waiting = self._untried(connection, sink, change.subject, "update")
        if waiting is None:
            return False
        payload = {**waiting.payload, "after": change.after}
        connection.execute(update(outbox).where(outbox.c.id == waiting.id).values(payload=payload))
        return True

    def _told(self, connection: Connection, sink: str, subject: str) -> str | None:
        """How the sink heard of an event's beginning: "told", the reason it was held, or None when it has not."""
        asked = select(outbox.c.held).where(
            outbox.c.sink == sink, outbox.c.subject == subject, outbox.c.kind == "new", outbox.c.site == self._site
        )
        found = connection.execute(asked.limit(1)).first()
        return None if found is None else found.held or "told"

    def _held(self, connection: Connection, sink: str, rules: Rules, change: Change, now: datetime) -> Held | None:
        if change.event is not None and rules.is_quiet(change.camera, change.event.start):
            return "quiet hours"
        cooldown = rules.cooldown(change.camera)
        if cooldown:
            recent = exists().where(
                outbox.c.sink == sink,
                outbox.c.site == self._site,
                outbox.c.camera == change.camera,
                outbox.c.kind == "new",
                outbox.c.created > now - cooldown,
                outbox.c.created <= now,
                outbox.c.held.is_(None) | (outbox.c.held == _NOT_ASKED_FOR),
            )
            if connection.execute(select(recent)).scalar():
                return "cool-down"
        return None if "new" in rules.settings.kinds else _NOT_ASKED_FOR

    def _untried(self, connection: Connection, sink: str, subject: str, kind: str) -> Waiting | None:
        asked = select(outbox.c.id, outbox.c.payload).where(
            outbox.c.sink == sink,
            outbox.c.site == self._site,
            outbox.c.subject == subject,
            outbox.c.kind == kind,
            outbox.c.attempts == 0,
            outbox.c.next_try.is_not(None),
        )
        found = connection.execute(asked.order_by(outbox.c.id.desc()).limit(1)).first()
        return None if found is None else Waiting(found.id, found.payload)

    def _insert(
        self, connection: Connection, sink: str, rules: Rules, change: Change, now: datetime, held: Held | None = None
    ) -> None:
        id = new_id()
        payload: JSON = {"id": id, "kind": change.kind, "time": iso(now), "camera": change.camera}
        event_id = change.event.id if change.event else None
        if rules.settings.link:
            payload["link"] = rules.settings.link.replace("{id}", event_id or "").replace("{camera}", change.camera)
        payload |= {"before": change.before, "after": change.after}
        connection.execute(
            insert(outbox).values(
                id=id,
                site=self._site,
                sink=sink,
                subject=change.subject,
                event_id=event_id,
                camera=change.camera,
                kind=change.kind,
                payload=payload if held is None else {},
                created=now,
                attempts=0,
                next_try=None if held else now + rules.delay(change.kind),
                held=held,
            )
        )

    def claim(self, sink: str, now: datetime) -> Alert | None:
        """Take the next alert that is due, and put its next try off as if this one failed.

        Of one subject the oldest comes first and the later ones wait for it; fresh alerts go before those that failed.

        Raises:
            StoreError: the database does not answer.
        """
        fresh_first = case((outbox.c.attempts == 0, 0), else_=1)
        asked = select(outbox).where(self._waiting(sink), outbox.c.next_try <= now).order_by(fresh_first, outbox.c.id)
        with self._database.read() as connection:
            if connection.execute(asked.limit(1)).first() is None:
                return None
        with self._database.write() as connection:
            row = connection.execute(asked.limit(1)).first()
            if row is None:
                return None
            wait = self._wait(sink, row.attempts)
            values = {"attempts": row.attempts + 1, "next_try": now + wait}
            connection.execute(update(outbox).where(outbox.c.id == row.id).values(**values))
        return Alert(row.id, sink, row.kind, row.camera, row.event_id, row.payload, row.created, row.attempts + 1)

    def _waiting(self, sink: str) -> ColumnElement[bool]:
        """Rows of a sink that no earlier row of the same subject holds up."""
        earlier = outbox.alias()
        blocked = exists().where(
            earlier.c.sink == outbox.c.sink,
            earlier.c.subject == outbox.c.subject,
            earlier.c.site == outbox.c.site,
            earlier.c.id < outbox.c.id,
            earlier.c.next_try.is_not(None),
        )
        return and_(outbox.c.sink == sink, outbox.c.site == self._site, ~blocked)

    def _wait(self, sink: str, attempts: int) -> timedelta:
        settings = self._rules[sink].settings
        longest = min(settings.retry_max_s, settings.retry_s * 2.0 ** min(attempts, 40))
        return timedelta(seconds=settings.timeout_s + longest * random.uniform(0.5, 1.0))

    def delivered(self, alert: Alert, now: datetime) -> None:
        """The alert has arrived."""
        with self._database.write() as connection:
            done = {"delivered_at": now, "next_try": None, "last_error": None}
            connection.execute(update(outbox).where(outbox.c.id == alert.id).values(**done))

    def failed(self, alert: Alert, reason: str, now: datetime) -> bool:
        """A try has failed; say whether the alert is given up."""
        settings = self._rules[alert.sink].settings
        gone = now - alert.created > timedelta(hours=settings.give_up_h)
        wait = self._wait(alert.sink, alert.attempts - 1) - timedelta(seconds=settings.timeout_s)
        values = {
            "last_error": reason[:1000],
            "next_try": None if gone else now + wait,
            "failed_at": now if gone else None,
        }
        with self._database.write() as connection:
            connection.execute(update(outbox).where(outbox.c.id == alert.id).values(**values))
        return gone

    def next_due(self, sink: str) -> datetime | None:
        """When the next alert of a sink is to be tried."""
        asked = select(func.min(outbox.c.next_try)).where(self._waiting(sink), outbox.c.next_try.is_not(None))
        with self._database.read() as connection:
            due: datetime | None = connection.execute(asked).scalar()
            return due

    def abandon_strangers(self, now: datetime) -> int:
        """Give up what waits for sinks that the settings no longer have, and say how much that was."""
        lost = and_(
            outbox.c.site == self._site, outbox.c.next_try.is_not(None), outbox.c.sink.not_in(list(self._rules))
        )
        values = {"next_try": None, "failed_at": now, "last_error": "the sink is no longer in the settings"}
        with self._database.write() as connection:
            return connection.execute(update(outbox).where(lost).values(**values)).rowcount

    def counts(self) -> dict[str, dict[str, int]]:
        """Sink to the number of alerts with each outcome."""
        outcome = case(
            (outbox.c.delivered_at.is_not(None), "delivered"),
            (outbox.c.failed_at.is_not(None), "failed"),
            (outbox.c.held == _NOT_ASKED_FOR, "none"),
            (outbox.c.held.is_not(None), "held"),
            else_="pending",
        ).label("outcome")
        asked = select(outbox.c.sink, outcome, func.count()).where(outbox.c.site == self._site)
        asked = asked.group_by(outbox.c.sink, "outcome")
        found = {sink: dict.fromkeys(OUTCOMES, 0) for sink in self._rules}
        with self._database.read() as connection:
            for sink, name, number in connection.execute(asked):
                if name in OUTCOMES:
                    found.setdefault(sink, dict.fromkeys(OUTCOMES, 0))[name] = number
        return found
