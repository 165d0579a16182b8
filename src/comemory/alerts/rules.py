"""The rules of one sink: which changes it gets, and which are held back. Implements `store.routing.SinkRoute`."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from comemory.alerts.config import SinkSettings
from comemory.alerts.hours import Hours, local_time
from comemory.alerts.snoozes import Snoozes
from comemory.store.routing import AlertKind, Change


class SinkRules:
    """The settings of one sink, asked about one change at a time. See `store.routing.SinkRoute`."""

    def __init__(self, settings: SinkSettings, snoozes: Snoozes | None = None) -> None:
        self.settings = settings
        self._snoozes = Snoozes() if snoozes is None else snoozes

    @property
    def timeout(self) -> timedelta:
        """Time limit of one attempt."""
        return timedelta(seconds=self.settings.timeout_s)

    @property
    def max_age(self) -> timedelta:
        """Age at which an alert is given up."""
        return timedelta(hours=self.settings.give_up_h)

    def selects(self, kind: AlertKind) -> bool:
        """Whether changes of this kind are sent."""
        return kind in self.settings.kinds

    def matches(self, change: Change) -> bool:
        """Whether the camera is one of the sink's, and an event is high enough and not suppressed."""
        settings = self.settings
        if change.kind == "system":
            return self.selects("system")
        if settings.cameras and change.camera not in settings.cameras:
            return False
        if change.event is None:
            return self.selects("state")
        is_high = settings.min_score is None or change.event.peak_score >= settings.min_score
        return is_high and not change.event.suppressed

    def is_quiet(self, camera: str, moment: datetime) -> bool:
        """Whether events that begin at this time are held back: in quiet hours, and while the camera is snoozed."""
        if self._snoozes.covers(camera, moment):
            return True
        own = self.settings.per_camera.get(camera)
        quiet = self.settings.quiet_hours if own is None or own.quiet_hours is None else own.quiet_hours
        local = local_time(moment, self.settings.time_zone)
        return any(Hours.parse(text).contains(local) for text in quiet)

    def cooldown(self, camera: str) -> timedelta:
        """How long after an alert the camera's further events are held back."""
        own = self.settings.per_camera.get(camera)
        seconds = self.settings.cooldown_s if own is None or own.cooldown_s is None else own.cooldown_s
        return timedelta(seconds=seconds)

    def delay(self, kind: AlertKind) -> timedelta:
        """How long an alert waits before its first delivery attempt."""
        return timedelta(seconds=self.settings.state_delay_s if kind == "state" else self.settings.delay_s)

    def retry_wait(self, attempts: int) -> timedelta:
        """The wait doubles with each failed attempt up to a maximum; jitter keeps sinks from with_retries together."""
        longest = min(self.settings.retry_max_s, self.settings.retry_s * 2.0 ** min(attempts, 40))
        return timedelta(seconds=longest * random.uniform(0.5, 1.0))

    def link(self, camera: str, event_id: str | None) -> str | None:
        """`link` of the settings, with `{id}` and `{camera}` replaced."""
        link = self.settings.link
        return link and link.replace("{id}", event_id or "").replace("{camera}", camera)
