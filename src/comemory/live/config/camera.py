"""The settings of one camera."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from comemory.alerts.hours import Hours
from comemory.config import Settings
from comemory.scoring import parse_budget
from comemory.secret_values import resolve_secret

Point = tuple[float, float]
"""(x, y) as fractions of the image width and height, from 0 to 1, origin at the top left."""
Zone = tuple[Point, ...]
"""A closed polygon of three points or more; the last point is joined to the first."""
MAX_ZONES, MAX_POINTS = 32, 64
"""Limits per camera and per zone: what the page can show and edit."""


class CameraSettings(Settings):
    """One camera, or a file that is played like one: `[cameras.NAME]`."""

    url: str = Field(
        min_length=1,
        repr=False,
        title="URL",
        description="`rtsp://`, `http://` (MJPEG, HLS, FLV), `/dev/video0`, a video file, a folder of images, "
        "or `env:NAME` for the name of an environment variable that holds it.",
    )
    model: Path | None = Field(
        None, title="Model", description="Bundle of this camera. Default: the model for all cameras."
    )
    false_alarms: str | None = Field(
        None,
        title="False-alarm budget",
        description="False alarms that are acceptable on normal video, such as `1/day` or `2/h`; sets the threshold. "
        "Default: `1/h`, or more where the model was trained on too little footage for it.",
    )
    fps: float | None = Field(
        None,
        gt=0,
        le=240,
        title="Scored frames per second",
        description="Limit on the frames per second that are scored, to save CPU. Default: the rate of the training.",
    )
    zones: tuple[Zone, ...] = Field(
        (),
        title="Ignored zones",
        description="Polygons in which nothing counts; points are fractions of the image width and height.",
    )
    hours: tuple[str, ...] = Field(
        (),
        title="Active hours",
        description="Local times at which events count, such as `08:00-18:00` or `mon-fri 22:00-06:00`. "
        "Events at other times are stored as suppressed. Default: always.",
    )
    unusual_times: str | None = Field(
        None,
        title="Unusual times",
        description="False alarms that are acceptable for movement at a place and a time of the week when it is usually empty, "
        "such as `1/week`. They come on top of those of `false_alarms`. Default: off.",
    )
    transport: Literal["tcp", "udp"] = Field("tcp", title="RTSP transport", description="`tcp` or `udp`.")
    realtime: bool = Field(
        True,
        title="Real time",
        description="Play a file at its own speed, like a live camera. `false` reads it as fast as it can be scored.",
    )
    loop: bool = Field(False, title="Loop", description="Start a file again at its end.")
    enabled: bool = Field(True, title="Enabled", description="`false` switches the camera off.")

    @field_validator("false_alarms", "unusual_times")
    @classmethod
    def _budget(cls, text: str | None) -> str | None:
        if text is not None:
            parse_budget(text)
        return text

    @field_validator("hours")
    @classmethod
    def _readable(cls, hours: tuple[str, ...]) -> tuple[str, ...]:
        for text in hours:
            Hours.parse(text)
        return hours

    @field_validator("zones")
    @classmethod
    def _inside(cls, zones: tuple[Zone, ...]) -> tuple[Zone, ...]:
        if len(zones) > MAX_ZONES:
            raise ValueError(f"a camera can have {MAX_ZONES} zones at most, got {len(zones)}")
        for zone in zones:
            if len(zone) > MAX_POINTS:
                raise ValueError(f"a zone can have {MAX_POINTS} points at most, got {len(zone)}")
            if len(zone) < 3:
                raise ValueError(f"a zone is a polygon and needs three points or more, got {len(zone)}")
            if any(not 0 <= number <= 1 for point in zone for number in point):
                raise ValueError("the points of a zone are fractions of the image width and height, from 0 to 1")
        return zones

    @property
    def resolved_url(self) -> str:
        """The URL or path, read from the environment for `env:NAME`. It may hold a password: mask it before logging.

        Raises:
            ConfigError: the environment variable is not set.
        """
        return resolve_secret(self.url, "the url of a camera", is_location=True)

    def require_url(self, name: str) -> None:
        """Check that the URL is known.

        Args:
            name: of the camera, for the error message.

        Raises:
            ConfigError: the environment variable is not set.
        """
        resolve_secret(self.url, f"the url of camera {name!r}", is_location=True)

    def is_active(self, now: datetime) -> bool:
        """Whether events count at this local time."""
        return not self.hours or any(Hours.parse(text).contains(now) for text in self.hours)
