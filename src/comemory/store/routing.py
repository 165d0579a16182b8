"""Changes, the rules that a sink has for them, and the alerts that follow. The store defines the rules; `alerts` has them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

from comemory.store.event import StoredEvent, iso, new_id
from comemory.types import JSON

AlertKind = Literal["new", "update", "end", "state", "system"]
HoldReason = Literal["cool-down", "quiet hours", "not selected"]
MUTED: tuple[HoldReason, ...] = ("cool-down", "quiet hours")
"""Reasons for which nothing of an event is sent; `not selected` is the start alone."""


@dataclass(frozen=True, slots=True)
class ChangeStamp:
    """Identifies one change, in the store and in memory: the same change makes the same alerts.

    Attributes:
        id: from `new_id`; sorts by the order of changes.
        time: when it happened, UTC.
    """

    id: str = field(default_factory=new_id)
    time: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Change:
    """A change that sinks may be notified of, as JSON before and after.

    Attributes:
        kind: `new`, `update` and `end` of an event; `state` of a camera; `system` of the service itself.
        subject: alerts of one subject are delivered in order. It is an event, a camera's state or a part of the service.
        camera: empty for `system`.
        before: None where there was nothing before, or where it is not known.
        event: as it is now; None for a state.
    """

    kind: AlertKind
    subject: str
    camera: str
    before: JSON | None
    after: JSON
    event: StoredEvent | None = None
    stamp: ChangeStamp = field(default_factory=ChangeStamp)


class SinkRoute(Protocol):
    """The rules of one sink, asked about one change at a time.

    Attributes:
        timeout: of one delivery attempt.
        max_age: an alert older than this is given up.
    """

    @property
    def timeout(self) -> timedelta:
        """Time limit of one attempt."""
        ...

    @property
    def max_age(self) -> timedelta:
        """Age at which an alert is given up."""
        ...

    def selects(self, kind: AlertKind) -> bool:
        """Whether changes of this kind are sent."""
        ...

    def matches(self, change: Change) -> bool:
        """Whether the camera is one of the sink's, and an event is high enough and not suppressed."""
        ...

    def is_quiet(self, camera: str, moment: datetime) -> bool:
        """Whether events that begin at this time are muted."""
        ...

    def cooldown(self, camera: str) -> timedelta:
        """How long after an alert the camera's further events are muted."""
        ...

    def delay(self, kind: AlertKind) -> timedelta:
        """How long an alert waits before its first delivery attempt."""
        ...

    def retry_wait(self, attempts: int) -> timedelta:
        """The wait after a failed attempt, by the number of attempts that failed before it."""
        ...

    def link(self, camera: str, event_id: str | None) -> str | None:
        """The link that goes into an alert, None where the settings have none."""
        ...


class History(Protocol):
    """What one sink was sent so far, as far as the rules depend on it."""

    def start_of(self, subject: str) -> str | None:
        """What became of the alert of an event's start: `sent`, why it was not, or None where there is none yet."""
        ...

    def has_recent(self, camera: str, since: datetime, until: datetime) -> bool:
        """Whether the start of an event of this camera was sent in this time."""
        ...


@dataclass(frozen=True, slots=True)
class PlannedAlert:
    """An alert that a change makes for a sink; a muted one is recorded, and never sent."""

    change: Change
    hold: HoldReason | None = None


def plan_alerts(route: SinkRoute, change: Change, history: History) -> list[PlannedAlert]:
    """The alerts that a change makes for a sink.

    An event that becomes interesting late (its score rises, its suppression ends) is announced as `new` first. An event
    whose start was muted stays muted to its end.
    """
    if change.kind in ("state", "system"):
        return [PlannedAlert(change)] if route.matches(change) else []
    start = history.start_of(change.subject)
    if start is not None:
        is_sent = start not in MUTED and change.kind != "new" and route.selects(change.kind)
        return [PlannedAlert(change)] if is_sent else []
    if not route.matches(change):
        return []
    hold = _hold_reason(route, change, history)
    planned = [PlannedAlert(replace(change, kind="new", before=None), hold)]
    if change.kind == "end" and hold not in MUTED and route.selects("end"):
        planned.append(PlannedAlert(change))
    return planned


def _hold_reason(route: SinkRoute, change: Change, history: History) -> HoldReason | None:
    if change.event is not None and route.is_quiet(change.camera, change.event.start):
        return "quiet hours"
    cooldown, now = route.cooldown(change.camera), change.stamp.time
    if cooldown and history.has_recent(change.camera, now - cooldown, now):
        return "cool-down"
    return None if route.selects("new") else "not selected"


def alert_id(sink: str, change: Change) -> str:
    """The id of the alert that a change makes for a sink. It is the same wherever it is worked out, and sorts by time.

    It begins with the time of the change's stamp. The last group tells sinks apart; its first digit sorts `new` before
    `end` where one change makes both.
    """
    digest = hashlib.blake2b(f"{change.stamp.id} {sink}".encode(), digest_size=6).hexdigest()
    return f"{change.stamp.id[:24]}{'0' if change.kind == 'new' else '8'}{digest[1:]}"


def payload_of(sink: str, route: SinkRoute, change: Change) -> JSON:
    """The JSON of an alert, as sinks send it."""
    event_id = change.event.id if change.event else None
    payload: JSON = {
        "id": alert_id(sink, change),
        "kind": change.kind,
        "time": iso(change.stamp.time),
        "camera": change.camera,
    }
    if link := route.link(change.camera, event_id):
        payload["link"] = link
    return {**payload, "before": change.before, "after": change.after}
