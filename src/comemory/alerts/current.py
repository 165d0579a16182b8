"""The present state: open events and the state of each camera. In memory, updated by every change as it happens."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from comemory.store.routing import Change, SinkRoute
from comemory.types import JSON


@dataclass(frozen=True, slots=True)
class CameraNow:
    """A camera as it is now.

    Attributes:
        has_open_event: an event that a sink would be notified of is open.
        state: the newest state as JSON (`state`, `message`, `at`), None before the first.
        is_paused: it is not watched.
        snoozed_until: its events make no alerts until then; None where they do.
    """

    has_open_event: bool = False
    state: JSON | None = None
    is_paused: bool = False
    snoozed_until: datetime | None = None


class CurrentState:
    """Open events and camera states. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, Change] = {}
        self._states: dict[str, JSON] = {}
        self._paused: frozenset[str] = frozenset()
        self._snoozed: Mapping[str, datetime] = {}

    def set_pauses(self, paused: Collection[str], snoozed: Mapping[str, datetime]) -> None:
        """Replace the cameras that are not watched, and those whose events make no alerts."""
        with self._lock:
            self._paused, self._snoozed = frozenset(paused), dict(snoozed)

    def update(self, change: Change) -> None:
        """Take in a change."""
        with self._lock:
            if change.kind == "state":
                self._states[change.camera] = change.after
            elif change.event is not None and change.event.end is None:
                self._open[change.subject] = change
            else:
                self._open.pop(change.subject, None)

    def state(self, camera: str) -> JSON | None:
        """The newest state of a camera."""
        with self._lock:
            return self._states.get(camera)

    def for_sink(self, route: SinkRoute) -> dict[str, CameraNow]:
        """The cameras as one sink sees them: events that are not for it, or that began in its quiet hours, do not count."""
        with self._lock:
            changes, states = list(self._open.values()), dict(self._states)
            paused, snoozed = self._paused, self._snoozed
        alarmed = {change.camera for change in changes if route.matches(change) and not _is_quiet(route, change)}
        return {
            camera: CameraNow(camera in alarmed, states.get(camera), camera in paused, snoozed.get(camera))
            for camera in alarmed | states.keys() | paused | snoozed.keys()
        }


def _is_quiet(route: SinkRoute, change: Change) -> bool:
    return change.event is not None and route.is_quiet(change.camera, change.event.start)
