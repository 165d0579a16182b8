"""Snoozed cameras: events that begin during a snooze make no alerts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

Span = tuple[datetime, datetime]
"""Start, and end (exclusive), UTC."""
MAX_PAST = 100
"""Snoozes of a camera that are remembered: the store may take in an event after the snooze that it began in."""


class Snoozes:
    """The times at which cameras are or were snoozed. May be called from any thread.

    >>> noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    >>> snoozes = Snoozes()
    >>> snoozes.set({"gate": (noon, noon.replace(hour=13))}, noon)
    >>> snoozes.covers("gate", noon.replace(minute=30)), snoozes.covers("yard", noon.replace(minute=30))
    (True, False)
    """

    def __init__(self) -> None:
        self._spans: dict[str, tuple[Span, ...]] = {}
        self._current: dict[str, Span] = {}

    def set(self, current: Mapping[str, Span], now: datetime | None = None) -> None:
        """Replace the snoozes; those that are no longer among them end now."""
        now = datetime.now(UTC) if now is None else now
        for camera, (start, end) in self._current.items():
            if current.get(camera) != (start, end):
                past = self._spans.get(camera, ())
                self._spans[camera] = (*past[-MAX_PAST:], (start, min(end, now)))
        self._current = dict(current)

    def until(self, camera: str) -> datetime | None:
        """When the snooze of a camera ends; None where it has none."""
        span = self._current.get(camera)
        return None if span is None else span[1]

    def covers(self, camera: str, moment: datetime) -> bool:
        """Whether the camera is or was snoozed at a time."""
        current = self._current.get(camera)
        spans = self._spans.get(camera, ()) if current is None else (*self._spans.get(camera, ()), current)
        return any(start <= moment < end for start, end in spans)
