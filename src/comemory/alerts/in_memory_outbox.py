"""Alerts that do not depend on the store: made in memory from every change, sent when the store does not take it in time.

Normally an alert goes through the outbox, which survives a crash. When the store is slow, full or away, the same alerts,
with the same ids, are sent from here. What was sent from here is marked as delivered when the store takes the change.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from comemory.store.event import new_id
from comemory.store.outbox import Alert
from comemory.store.routing import (
    Change,
    ChangeStamp,
    HoldReason,
    PlannedAlert,
    SinkRoute,
    alert_id,
    payload_of,
    plan_alerts,
)
from comemory.types import JSON

GRACE = timedelta(seconds=2)
"""How long the store may take for a change before its alerts are sent from memory. A commit takes milliseconds."""
MAX_ALERTS = 5_000
"""Alerts in memory; the oldest give way. One with the cells of its event takes some 20 KB."""
MEMORY = timedelta(minutes=10)
"""How long an alert stays in memory although the store has it, or never gets it: if the store goes away, it is sent from here."""
_SENT = "sent"


@dataclass
class _Pending:
    """An alert in memory.

    Attributes:
        due: of the next attempt.
        is_stored: the outbox has it; it is sent from here only while the store is away.
    """

    alert: Alert
    subject: str
    change_id: str
    due: datetime
    is_stored: bool = False
    is_delivered: bool = False

    @property
    def is_done(self) -> bool:
        """Whether nothing depends on it any more. The store has no alerts of the service itself."""
        return self.is_stored or (self.is_delivered and self.alert.kind == "system")


@dataclass
class _History:
    """What one sink was sent, by subject and camera. See `routing.History`."""

    starts: OrderedDict[str, str] = field(default_factory=OrderedDict)
    newest: dict[str, datetime] = field(default_factory=dict)

    def start_of(self, subject: str) -> str | None:
        return self.starts.get(subject)

    def has_recent(self, camera: str, since: datetime, until: datetime) -> bool:
        return camera in self.newest and since < self.newest[camera] <= until

    def add(self, subject: str, camera: str, hold: HoldReason | None, time: datetime) -> None:
        self.starts[subject] = hold or _SENT
        if hold in (None, "not selected"):
            self.newest[camera] = time
        while len(self.starts) > MAX_ALERTS:
            self.starts.popitem(last=False)


class InMemoryOutbox:
    """Alerts in memory. All methods may be called from any thread.

    Args:
        routes: the rules of each sink.
    """

    def __init__(self, routes: Mapping[str, SinkRoute]) -> None:
        self._routes = dict(routes)
        self._histories = {sink: _History() for sink in routes}
        self._lock = threading.Lock()
        self._alerts: OrderedDict[str, _Pending] = OrderedDict()

    def __len__(self) -> int:
        """Alerts in memory, of all sinks."""
        return len(self._alerts)

    def set_routes(self, routes: Mapping[str, SinkRoute]) -> None:
        """Replace the sinks; alerts for those that are gone are dropped."""
        with self._lock:
            self._routes = dict(routes)
            self._histories = {sink: self._histories.get(sink) or _History() for sink in routes}
            self._alerts = OrderedDict((id, one) for id, one in self._alerts.items() if one.alert.sink in routes)

    def add(self, change: Change, grace: timedelta = GRACE) -> None:
        """Make the alerts of a change. They are due after the grace, unless the store has taken it by then."""
        with self._lock:
            self._prune(change.stamp.time - MEMORY)
            for sink, route in self._routes.items():
                history = self._histories[sink]
                for planned in plan_alerts(route, change, history):
                    if planned.change.kind == "new":
                        history.add(change.subject, change.camera, planned.hold, change.stamp.time)
                    if planned.hold is None and not self._merge(sink, planned.change):
                        self._insert(sink, route, planned, grace)

    def mark_stored(self, change_id: str) -> None:
        """The store has a change, and its outbox the alerts."""
        with self._lock:
            for pending in self._alerts.values():
                if pending.change_id == change_id:
                    pending.is_stored = True

    def mark_delivered(self, id: str) -> None:
        """An alert has arrived, sent from here or from the outbox. Its id stays, so that it is not sent again."""
        with self._lock:
            if pending := self._alerts.get(id):
                pending.is_delivered = True
                pending.alert = replace(pending.alert, payload={})  # the cells of an event are most of its memory

    def mark_failed(self, alert: Alert, now: datetime) -> None:
        """An attempt from here has failed: it is tried again, until it is too old."""
        route = self._routes[alert.sink]
        with self._lock:
            if pending := self._alerts.get(alert.id):
                pending.due = now + route.retry_wait(alert.attempts - 1)
                if now - alert.created > route.max_age:
                    del self._alerts[alert.id]

    def was_delivered(self, id: str) -> bool:
        """Whether an alert was delivered in this process."""
        with self._lock:
            pending = self._alerts.get(id)
            return pending is not None and pending.is_delivered

    def claim(self, sink: str, now: datetime, *, is_store_away: bool) -> Alert | None:
        """The next alert that is due and that the store does not send; None where there is none.

        Args:
            sink: its name.
            now: in UTC.
            is_store_away: also those that the outbox has, since it cannot be read.
        """
        with self._lock:
            blocked: set[str] = set()
            for pending in self._alerts.values():
                if pending.alert.sink != sink or pending.is_delivered or (pending.is_stored and not is_store_away):
                    continue
                if pending.due <= now and pending.subject not in blocked:
                    route, alert = self._routes[sink], pending.alert
                    pending.due = now + route.timeout + route.retry_wait(alert.attempts)
                    pending.alert = _attempted(alert)
                    return pending.alert
                blocked.add(pending.subject)
        return None

    def next_due(self, sink: str) -> datetime | None:
        """When the next alert of a sink is due that the store does not have."""
        with self._lock:
            due = [
                pending.due
                for pending in self._alerts.values()
                if pending.alert.sink == sink and not pending.is_delivered and not pending.is_stored
            ]
        return min(due, default=None)

    def n_waiting(self, sink: str) -> int:
        """Alerts of a sink that are not delivered, and that the store does not have."""
        with self._lock:
            return sum(
                pending.alert.sink == sink and not (pending.is_delivered or pending.is_stored)
                for pending in self._alerts.values()
            )

    def _prune(self, before: datetime) -> None:
        """Remove the alerts older than a time that the store has, and those that were sent and that it never gets."""
        done = [id for id, one in self._alerts.items() if one.alert.created < before and one.is_done]
        for id in done:
            del self._alerts[id]

    def _merge(self, sink: str, change: Change) -> bool:
        """Merge a change into an alert of its subject without a delivery attempt, as the outbox does."""
        waiting = next(
            (
                pending
                for pending in reversed(self._alerts.values())
                if pending.alert.sink == sink
                and pending.subject == change.subject
                and pending.alert.kind == change.kind
                and not (pending.alert.attempts or pending.is_stored or pending.is_delivered)
            ),
            None,
        )
        if waiting is None or change.kind not in ("update", "state", "system"):
            return False
        before: JSON | None = waiting.alert.payload["before"]
        if change.kind != "update" and before is not None and before["state"] == change.after["state"]:
            del self._alerts[waiting.alert.id]
        else:
            waiting.alert.payload["after"] = change.after
        return True

    def _insert(self, sink: str, route: SinkRoute, planned: PlannedAlert, grace: timedelta) -> None:
        change, id = planned.change, alert_id(sink, planned.change)
        alert = Alert(
            id,
            sink,
            change.kind,
            change.camera,
            change.event.id if change.event else None,
            payload_of(sink, route, change),
            change.stamp.time,
            0,
        )
        due = change.stamp.time + max(grace, route.delay(change.kind))
        self._alerts[id] = _Pending(alert, change.subject, change.stamp.id, due)
        while len(self._alerts) > MAX_ALERTS:
            self._alerts.popitem(last=False)


def system_change(part: str, state: str, message: str, before: str | None) -> Change:
    """A change of the service itself.

    Args:
        part: such as `store`, `disk` or `alerts.desk`.
        state: `ok` or `error`.
        message: one line for people.
        before: the state before, None at the first.
    """
    now = datetime.now(UTC)
    after: JSON = {"part": part, "state": state, "message": message, "at": now.isoformat(timespec="milliseconds")}
    earlier = None if before is None else {**after, "state": before, "message": ""}
    return Change("system", f"system:{part}", "", earlier, after, stamp=ChangeStamp(new_id(), now))


def _attempted(alert: Alert) -> Alert:
    return Alert(
        alert.id,
        alert.sink,
        alert.kind,
        alert.camera,
        alert.event_id,
        alert.payload,
        alert.created,
        alert.attempts + 1,
    )
