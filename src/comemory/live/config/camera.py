"""One camera: where it is, how it is watched."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from comemory.alerts.hours import Hours
from comemory.config_model import Settings
from comemory.scoring import parse_budget
from comemory.secret_values import reveal

Point = tuple[float, float]
"""x and y as shares of the picture's width and height, 0 to 1, from the top left."""
Zone = tuple[Point, ...]
"""A polygon of at least three points; the last one is joined to the first."""
MOST_ZONES, MOST_POINTS = 32, 64
"""Of a camera, and of a zone: what the page shows and takes."""


class CameraSettings(Settings):
    """One camera, or a file that is played as if it were one.

    Attributes:
        url: `rtsp://`, `http://` (MJPEG, HLS), `/dev/video0`, a file; or `env:NAME`.
        model: bundle; None takes the one for all cameras.
        false_alarms: how many are bearable on ordinary video.
        fps: frames a second to score; None is the rate that the model was trained at. Other rates than that are scored
            at their own risk: what moves looks faster or slower than what was learned.
        zones: polygons in which nothing counts, `MOST_ZONES` of `MOST_POINTS` points at most.
        hours: when events count, such as `08:00-18:00` or `mon-fri 22:00-06:00`, local time; always when empty.
        transport: of RTSP.
        realtime: play a file at its own pace, as if it were live; False reads it as fast as it is scored.
        loop: begin a file anew at its end.
        watch: whether the camera is watched at all.
    """

    url: str = Field(min_length=1, repr=False)
    model: Path | None = None
    false_alarms: str = "1/day"
    fps: float | None = Field(None, gt=0, le=240)
    zones: tuple[Zone, ...] = ()
    hours: tuple[str, ...] = ()
    transport: Literal["tcp", "udp"] = "tcp"
    realtime: bool = True
    loop: bool = False
    watch: bool = True

    @field_validator("false_alarms")
    @classmethod
    def _budget(cls, text: str) -> str:
        parse_budget(text)
        return text

    @field_validator("hours")
    @classmethod
    def _readable(cls, hours: tuple[str, ...]) -> tuple[str, ...]:
        for text in hours:
            Hours.read(text)
        return hours

    @field_validator("zones")
    @classmethod
    def _inside(cls, zones: tuple[Zone, ...]) -> tuple[Zone, ...]:
        if len(zones) > MOST_ZONES:
            raise ValueError(f"a camera has {MOST_ZONES} zones at most, got {len(zones)}")
        for zone in zones:
            if len(zone) > MOST_POINTS:
                raise ValueError(f"a zone has {MOST_POINTS} points at most, got {len(zone)}")
            if len(zone) < 3:
                raise ValueError(f"a zone is a polygon of three points or more, got {len(zone)}")
            if any(not 0 <= number <= 1 for point in zone for number in point):
                raise ValueError("the points of a zone are shares of width and height, from 0 to 1")
        return zones

    @property
    def location(self) -> str:
        """The URL or path itself, fetched from the environment where `url` says so. Never log it unmasked."""
        return reveal(self.url, "the url of a camera")

    def is_active(self, now: datetime) -> bool:
        """Whether events count at this local time."""
        return not self.hours or any(Hours.read(text).covers(now) for text in self.hours)
