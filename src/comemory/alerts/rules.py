"""Which changes a sink is told of, and which are held back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from comemory.alerts.config import AlertKind, SinkSettings
from comemory.alerts.hours import Hours, on_the_wall
from comemory.store.event import StoredEvent
from comemory.types import JSON

Held = Literal["cool-down", "quiet hours", "not asked for"]


@dataclass(frozen=True, slots=True)
class Change:
    """Something that sinks may want to know, as JSON before and after.

    Attributes:
        subject: what must be told in order: an event, or a camera's state.
        event: as it is now, None for a state.
    """

    kind: AlertKind
    subject: str
    camera: str
    before: JSON | None
    after: JSON
    event: StoredEvent | None = None


class Rules:
    """The settings of one sink, asked about one change at a time."""

    def __init__(self, settings: SinkSettings) -> None:
        self.settings = settings

    def concerns(self, change: Change) -> bool:
        """Whether the sink is to hear of this camera, and of an event as high as this."""
        told = self.settings
        if told.cameras and change.camera not in told.cameras:
            return False
        if change.event is None:
            return "state" in told.kinds
        return not change.event.suppressed and (told.min_score is None or change.event.peak_score >= told.min_score)

    def cooldown(self, camera: str) -> timedelta:
        own = self.settings.per_camera.get(camera)
        seconds = self.settings.cooldown_s if own is None or own.cooldown_s is None else own.cooldown_s
        return timedelta(seconds=seconds)

    def is_quiet(self, camera: str, moment: datetime) -> bool:
        own = self.settings.per_camera.get(camera)
        quiet = self.settings.quiet if own is None or own.quiet is None else own.quiet
        local = on_the_wall(moment, self.settings.zone)
        return any(Hours.read(text).covers(local) for text in quiet)

    def delay(self, kind: AlertKind) -> timedelta:
        return timedelta(seconds=self.settings.state_delay_s if kind == "state" else self.settings.delay_s)
